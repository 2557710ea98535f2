//! Getting back the space of what no document refers to.
use super::{Store, StreamId, Usage};
use crate::Error;
use crate::catalogue::{Extent, push_extent};

/// Bytes copied at a time.
const COPY: u64 = 4 << 20;

impl Store {
    /// Reclaim the space of removed and replaced documents. `progress` is told how many segments are done and how
    /// many have to be.
    ///
    /// One segment after the other is rewritten without what is dead, each with a commit of its own: a kill at any
    /// instant leaves the same documents, and no more room is needed than one segment takes. Rows keep their order.
    pub fn compact(&mut self, progress: &mut dyn FnMut(usize, usize)) -> Result<Usage, Error> {
        self.writing(|store| {
            // Only what is committed can be read and copied.
            store.commit_changes()?;
            store.catalogue.drop_dead();
            let used = store.live_bytes();
            let streams = store.manifest.streams.len() as u16;
            let mut victims = Vec::new();
            for (id, segment) in &store.segments {
                let stream = store.stream_of(*id).filter(|stream| *stream != StreamId::CATALOGUE);
                let live = used.get(id).copied().unwrap_or(0);
                if let Some(stream) = stream.filter(|_| live < segment.committed().len) {
                    victims.push((stream, *id));
                }
            }
            // What is rewritten goes to new segments, never behind rows that are about to be rewritten.
            for stream in (0..streams).map(StreamId) {
                let open = store.open.get(&stream).copied();
                if open.is_some_and(|open| victims.contains(&(stream, open))) {
                    store.open.remove(&stream);
                }
            }
            for (done, (stream, id)) in victims.iter().enumerate() {
                progress(done, victims.len());
                store.evacuate(*stream, *id)?;
                store.drop_segment(*id);
                store.rewrite_catalogue()?;
                store.commit_changes()?;
            }
            if victims.is_empty() {
                store.rewrite_catalogue()?;
                store.commit_changes()?;
            }
            progress(victims.len(), victims.len());
            Ok(store.usage())
        })
    }

    /// Copy what is live in a segment behind the stream's open one.
    fn evacuate(&mut self, stream: StreamId, victim: u64) -> Result<(), Error> {
        let mut moves = Vec::new();
        for section in self.catalogue.sections.values() {
            let extents = section.extents(stream).iter().enumerate();
            moves.extend(
                extents.filter(|(_, e)| e.segment == victim).map(|(at, e)| (e.start, section.id, at)),
            );
        }
        moves.sort_unstable();
        let mut buffer = Vec::new();
        let row = u64::from(self.row_bytes(stream));
        let copy = (COPY / row).max(1) * row;
        let mut moved = std::collections::BTreeMap::new();
        for (_, section, at) in moves {
            let extent = self.catalogue.sections[&section].extents(stream)[at];
            let mut target: Vec<Extent> = Vec::new();
            let mut done = 0;
            while done < extent.len {
                buffer.resize((extent.len - done).min(copy) as usize, 0);
                self.segments[&victim].read(extent.start + done, &mut buffer)?;
                self.append_rows(stream, &buffer, &mut |extent| push_extent(&mut target, extent))?;
                done += buffer.len() as u64;
            }
            moved.insert((section, at), target);
        }
        for section in self.catalogue.sections.values_mut() {
            let Some(extents) = section.extents.get_mut(&stream) else { continue };
            let old = std::mem::take(extents);
            for (at, extent) in old.into_iter().enumerate() {
                match moved.remove(&(section.id, at)) {
                    Some(target) => target.into_iter().for_each(|extent| push_extent(extents, extent)),
                    None => push_extent(extents, extent),
                }
            }
        }
        Ok(())
    }

    /// Put the state of the catalogue in place of its history.
    fn rewrite_catalogue(&mut self) -> Result<(), Error> {
        // Changes and rows that are not committed yet are in the snapshot.
        self.records.0.clear();
        self.rows.clear();
        if let Some(old) = self.open.remove(&StreamId::CATALOGUE) {
            self.drop_segment(old);
        }
        let snapshot = self.catalogue.snapshot().0;
        self.append_rows(StreamId::CATALOGUE, &snapshot, &mut |_| ())
    }
}
