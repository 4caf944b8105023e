//! The records of one zone as they were read, before they are checked and compiled.
//!
//! A zone may have a million of them, so they lie in one buffer: a record costs its own octets and a
//! fixed entry, and no allocation of its own.

use std::sync::Arc;

use crate::finding::{At, Source};
use crate::wire::{Name, Rtype};

/// Records in the order they were written.
#[derive(Debug, Default)]
pub struct Records {
    octets: Vec<u8>,
    entries: Vec<Entry>,
    sources: Vec<Arc<Source>>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    owner: u32,
    rdata: u32,
    ttl: u32,
    line: u32,
    column: u16,
    source: u16,
    rdata_length: u16,
    rtype: Rtype,
}

/// One record of [`Records`].
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The owner in uncompressed wire format, case as written.
    pub owner: &'a [u8],
    /// Its type.
    pub rtype: Rtype,
    /// Seconds.
    pub ttl: u32,
    /// In wire format, names in it uncompressed.
    pub rdata: &'a [u8],
    source: &'a Arc<Source>,
    line: u32,
    column: u16,
}

impl Record<'_> {
    /// Where it was written.
    #[must_use]
    pub fn at(&self) -> At {
        At::new(self.source, self.line, u32::from(self.column))
    }

    /// The owner as a name of its own.
    ///
    /// # Panics
    /// Never: only whole names get into [`Records`].
    #[must_use]
    pub fn owner_name(&self) -> Name {
        Name::from_wire(self.owner).expect("records hold whole names")
    }
}

impl Records {
    /// No records.
    #[must_use]
    pub fn new() -> Records {
        Records::default()
    }

    /// Adds a record after the others. RDATA is at most 65,535 octets by the time it gets here.
    ///
    /// # Errors
    /// Gives the RDATA's length back when it is above what a record can carry, or when the zone is
    /// above 4 GiB.
    pub fn push(&mut self, owner: &Name, rtype: Rtype, ttl: u32, rdata: &[u8], at: &At) -> Result<(), usize> {
        let rdata_length = u16::try_from(rdata.len()).map_err(|_| rdata.len())?;
        let owner_start = match self.entries.last() {
            // Records of one owner usually follow each other: its octets are kept once.
            Some(last) if self.octets[last.owner as usize..].starts_with(owner.wire()) => last.owner,
            _ => {
                let start = u32::try_from(self.octets.len()).map_err(|_| self.octets.len())?;
                self.octets.extend_from_slice(owner.wire());
                start
            }
        };
        let rdata_start = u32::try_from(self.octets.len()).map_err(|_| self.octets.len())?;
        self.octets.extend_from_slice(rdata);
        let source = match self.sources.iter().rposition(|source| Arc::ptr_eq(source, &at.source)) {
            Some(known) => known,
            None => {
                self.sources.push(Arc::clone(&at.source));
                self.sources.len() - 1
            }
        };
        self.entries.push(Entry {
            owner: owner_start,
            rdata: rdata_start,
            ttl,
            line: at.line,
            column: u16::try_from(at.column).unwrap_or(u16::MAX),
            source: u16::try_from(source).map_err(|_| source)?,
            rdata_length,
            rtype,
        });
        Ok(())
    }

    /// In the order written.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Record<'_>> {
        self.entries.iter().map(|entry| self.record(entry))
    }

    /// The record that was written after `index` others.
    ///
    /// # Panics
    /// When there are not that many.
    #[must_use]
    pub fn get(&self, index: usize) -> Record<'_> {
        self.record(&self.entries[index])
    }

    fn record(&self, entry: &Entry) -> Record<'_> {
        let owner = &self.octets[entry.owner as usize..];
        let rdata = &self.octets[entry.rdata as usize..];
        Record {
            owner: &owner[..crate::wire::name::wire_length(owner).unwrap_or(0)],
            rtype: entry.rtype,
            ttl: entry.ttl,
            rdata: &rdata[..usize::from(entry.rdata_length)],
            source: &self.sources[usize::from(entry.source)],
            line: entry.line,
            column: entry.column,
        }
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
