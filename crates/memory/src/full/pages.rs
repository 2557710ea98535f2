//! Blocks of a store as far text for attention.
use super::Layout;
use super::pool::{PageId, PagePool};
use crate::adaptive::{FarBlock, FarBlocks};
use crate::{Error, SectionId, Store, StreamId};
use longleaf_kernel::{BLOCK_TOKENS, Compute};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// Pages are read in runs of layers of about so many bytes (see `docs/experiments.md`).
const PAGE_BYTES: usize = 128 << 10;
/// How many reads the disk is asked for at once.
const READERS: usize = 4;

/// The blocks of some sections at full depth, in their order.
#[derive(Debug)]
pub struct Pages<'s> {
    store: &'s Store,
    compute: Arc<Compute>,
    layout: Layout,
    stream: StreamId,
    /// Layers of a page.
    group: usize,
    blocks: Vec<Place>,
    /// For each layer, those of all blocks.
    summaries: Vec<Vec<f32>>,
    pool: PagePool,
}

/// Where a block lies.
#[derive(Debug, Clone, Copy)]
struct Place {
    section: SectionId,
    /// Its number within the section.
    block: u32,
    tokens: u32,
}

impl<'s> Pages<'s> {
    /// The blocks of `sections` in a store, those that are there at full depth. At most `ram` bytes stay in RAM: all
    /// summaries (a fiftieth of what is on disk, see [`Pages::summary_bytes`]), and pages as far as there is room.
    ///
    /// # Errors
    /// Those of the store.
    pub fn open(
        store: &'s Store,
        sections: &[SectionId],
        layout: Layout,
        compute: &Arc<Compute>,
        ram: usize,
    ) -> Result<Self, Error> {
        let streams = layout.find(store);
        let mut pages = Self {
            store,
            compute: Arc::clone(compute),
            layout,
            stream: streams.map_or(StreamId::TEXT, |[blocks, _]| blocks),
            group: PAGE_BYTES.div_ceil(layout.form.bytes()).min(layout.layers),
            blocks: Vec::new(),
            summaries: vec![Vec::new(); layout.layers],
            pool: PagePool::default(),
        };
        let Some([_, summaries]) = streams else { return Ok(pages) };
        for &section in sections {
            if !layout.holds(store, section) {
                continue;
            }
            let tokens = store.section(section).map_or(0, |found| found.bytes(StreamId::TOKENS) / 4) as usize;
            for (block, first) in (0..tokens).step_by(BLOCK_TOKENS).enumerate() {
                let tokens = BLOCK_TOKENS.min(tokens - first) as u32;
                pages.blocks.push(Place { section, block: block as u32, tokens });
            }
            let bytes = store.read_all(section, summaries)?;
            for (index, row) in bytes.chunks_exact(4 * layout.summary).enumerate() {
                let numbers = row.as_chunks::<4>().0.iter().map(|number| f32::from_le_bytes(*number));
                pages.summaries[index % layout.layers].extend(numbers);
            }
        }
        pages.pool = PagePool::new(ram.saturating_sub(pages.summary_bytes()));
        Ok(pages)
    }

    /// Keep only the blocks that are `wanted`, of which it is told the section and the tokens there.
    pub fn select(&mut self, wanted: &mut dyn FnMut(SectionId, Range<usize>) -> bool) {
        let one = self.layout.summary;
        let wanted: Vec<bool> = self
            .blocks
            .iter()
            .map(|place| {
                let first = place.block as usize * BLOCK_TOKENS;
                wanted(place.section, first..first + place.tokens as usize)
            })
            .collect();
        let mut blocks = wanted.iter();
        self.blocks.retain(|_| *blocks.next().expect("one for every block"));
        for layer in &mut self.summaries {
            let rows = layer.chunks_exact(one.max(1)).zip(&wanted).filter(|(_, wanted)| **wanted);
            *layer = rows.flat_map(|(row, _)| row).copied().collect();
        }
    }

    /// The section of a block, and its first token there.
    pub fn place(&self, block: usize) -> (SectionId, usize) {
        let place = self.blocks[block];
        (place.section, place.block as usize * BLOCK_TOKENS)
    }

    /// What the summaries take in RAM.
    pub fn summary_bytes(&self) -> usize {
        self.summaries.iter().map(|layer| 4 * layer.len()).sum()
    }

    /// The pages in RAM.
    pub fn pool(&self) -> &PagePool {
        &self.pool
    }

    /// The pages that hold `blocks` in `layer`.
    fn pages(&mut self, layer: usize, blocks: &[usize]) -> Result<Vec<Arc<[u8]>>, Error> {
        let group = layer / self.group;
        let id = |block: &usize| {
            let Place { section, block, .. } = self.blocks[*block];
            PageId { section, block, group: group as u32 }
        };
        let ids: Vec<PageId> = blocks.iter().map(id).collect();
        let mut pages: Vec<Option<Arc<[u8]>>> = ids.iter().map(|id| self.pool.get(*id)).collect();
        let mut missing: Vec<PageId> =
            ids.iter().zip(&pages).filter(|(_, page)| page.is_none()).map(|(id, _)| *id).collect();
        missing.sort_unstable();
        missing.dedup();
        let read = self.read(&missing)?;
        for (id, page) in missing.iter().zip(&read) {
            self.pool.insert(*id, Arc::clone(page));
        }
        for (id, page) in ids.iter().zip(&mut pages) {
            if page.is_none() {
                *page = missing.binary_search(id).ok().map(|index| Arc::clone(&read[index]));
            }
        }
        Ok(pages.into_iter().flatten().collect())
    }

    /// Read pages, several at once.
    fn read(&self, ids: &[PageId]) -> Result<Vec<Arc<[u8]>>, Error> {
        let (row, layers) = (self.layout.form.bytes(), self.layout.layers);
        let one = |id: &PageId| -> Result<Arc<[u8]>, Error> {
            let first = id.group as usize * self.group;
            let mut page = vec![0; self.group.min(layers - first) * row];
            let start = (id.block as usize * layers + first) * row;
            self.store.read(id.section, self.stream, start as u64, &mut page)?;
            Ok(page.into())
        };
        if ids.len() < 2 {
            return ids.iter().map(one).collect();
        }
        let next = AtomicUsize::new(0);
        let work = || {
            let turn = || Some(next.fetch_add(1, Ordering::Relaxed)).filter(|index| *index < ids.len());
            std::iter::from_fn(turn).map(|index| one(&ids[index]).map(|page| (index, page))).collect()
        };
        let done: Vec<Result<Vec<_>, Error>> = thread::scope(|scope| {
            let readers: Vec<_> = (1..READERS.min(ids.len())).map(|_| scope.spawn(work)).collect();
            let mine = work();
            let theirs = readers.into_iter().map(|reader| reader.join().expect("reading does not panic"));
            theirs.chain([mine]).collect()
        });
        let mut pages: Vec<(usize, Arc<[u8]>)> = Vec::with_capacity(ids.len());
        for part in done {
            pages.extend(part?);
        }
        pages.sort_unstable_by_key(|(index, _)| *index);
        Ok(pages.into_iter().map(|(_, page)| page).collect())
    }
}

impl FarBlocks for Pages<'_> {
    fn len(&self) -> usize {
        self.blocks.len()
    }

    fn tokens(&self, block: usize) -> usize {
        self.blocks[block].tokens as usize
    }

    fn summaries(&mut self, layer: usize, blocks: Range<usize>, out: &mut Vec<f32>) -> Result<(), Error> {
        let one = self.layout.summary;
        out.extend_from_slice(&self.summaries[layer][blocks.start * one..blocks.end * one]);
        Ok(())
    }

    fn fetch(&mut self, layer: usize, blocks: &[usize], out: &mut [FarBlock]) -> Result<(), Error> {
        assert_eq!(blocks.len(), out.len(), "a buffer for every block");
        let pages = self.pages(layer, blocks)?;
        let form = self.layout.form;
        let at = layer % self.group * form.bytes();
        let row = form.kv_heads * form.head_dim;
        let places = &self.blocks;
        self.compute.pool().chunks_mut(out, 1, &|index, out| {
            let [out] = out else { return };
            let len = places[blocks[index]].tokens as usize * row;
            out.keys.resize(len, 0.0);
            out.values.resize(len, 0.0);
            form.decode(&pages[index][at..at + form.bytes()], &mut out.keys, &mut out.values);
        });
        Ok(())
    }
}
