//! Pages in RAM, as many as were asked for.
use crate::SectionId;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Some layers of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageId {
    /// The section.
    pub section: SectionId,
    /// Which of its blocks.
    pub block: u32,
    /// Which run of layers.
    pub group: u32,
}

/// Pages as they lie on disk, the least recently used ones given up first.
#[derive(Debug, Default)]
pub struct PagePool {
    budget: usize,
    bytes: usize,
    /// Counts the uses.
    clock: u64,
    pages: HashMap<PageId, (Arc<[u8]>, u64)>,
    /// Pages by their last use.
    uses: BTreeMap<u64, PageId>,
    misses: u64,
}

impl PagePool {
    /// A pool of at most `budget` bytes of pages.
    pub fn new(budget: usize) -> Self {
        Self { budget, ..Self::default() }
    }

    /// Bytes of the pages in it.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// How many pages were asked for that were not there.
    pub fn misses(&self) -> u64 {
        self.misses
    }

    /// A page, if it is there.
    pub fn get(&mut self, id: PageId) -> Option<Arc<[u8]>> {
        self.clock += 1;
        let Some((page, used)) = self.pages.get_mut(&id) else {
            self.misses += 1;
            return None;
        };
        self.uses.remove(used);
        *used = self.clock;
        self.uses.insert(self.clock, id);
        Some(Arc::clone(page))
    }

    /// Take in a page, in place of those that were not used for longest. One that is larger than the whole budget is
    /// not kept.
    pub fn insert(&mut self, id: PageId, page: Arc<[u8]>) {
        if page.len() > self.budget {
            return;
        }
        self.clock += 1;
        self.bytes += page.len();
        if let Some((old, used)) = self.pages.insert(id, (page, self.clock)) {
            self.bytes -= old.len();
            self.uses.remove(&used);
        }
        self.uses.insert(self.clock, id);
        while self.bytes > self.budget {
            let (_, oldest) = self.uses.pop_first().expect("what takes bytes was used once");
            let (page, _) = self.pages.remove(&oldest).expect("what was used is there");
            self.bytes -= page.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(block: u32) -> PageId {
        PageId { section: SectionId(1), block, group: 0 }
    }

    #[test]
    fn the_least_recently_used_goes_first() {
        let mut pool = PagePool::new(30);
        for block in 0..3 {
            assert!(pool.get(id(block)).is_none());
            pool.insert(id(block), vec![block as u8; 10].into());
        }
        assert_eq!(pool.get(id(0)).as_deref(), Some(&[0; 10][..]));
        pool.insert(id(3), vec![3; 10].into());
        assert!(pool.get(id(1)).is_none(), "used longest ago");
        assert!(pool.get(id(0)).is_some() && pool.get(id(2)).is_some() && pool.get(id(3)).is_some());
        assert_eq!((pool.bytes(), pool.misses()), (30, 4));
    }

    #[test]
    fn the_budget_holds() {
        let mut pool = PagePool::new(100);
        for round in 0..200_u32 {
            pool.insert(id(round * 7 % 23), vec![0; 1 + (round * 31 % 40) as usize].into());
            assert!(pool.bytes() <= 100);
            assert_eq!(pool.bytes(), pool.pages.values().map(|(page, _)| page.len()).sum::<usize>());
            assert_eq!(pool.pages.len(), pool.uses.len());
        }
        pool.insert(id(99), vec![0; 101].into());
        assert!(pool.get(id(99)).is_none());
        let mut none = PagePool::new(0);
        none.insert(id(0), vec![1].into());
        assert!(none.get(id(0)).is_none());
    }
}
