//! A name that is being looked up: in lower case, split into labels, in room of its own on the stack.

use crate::wire::name::{LONGEST, LONGEST_LABEL};

/// The most labels that fit into 255 octets, the root not counted.
const MOST_LABELS: usize = 127;

/// Octets that are lowered at once.
const STRIDE: usize = 16;

/// For the longest name, in whole strides.
const ROOM: usize = LONGEST.next_multiple_of(STRIDE);

/// The name that a look-up walks along, without allocation: QNAME, then the targets of a chain.
#[derive(Clone)]
pub struct Qname {
    lower: [u8; ROOM],
    length: u8,
    starts: [u8; MOST_LABELS],
    count: u8,
}

impl std::fmt::Debug for Qname {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", super::Name::from_wire(self.wire()).map_err(|_| std::fmt::Error)?)
    }
}

impl Default for Qname {
    fn default() -> Qname {
        Qname { lower: [0; ROOM], length: 1, starts: [0; MOST_LABELS], count: 0 }
    }
}

impl Qname {
    /// Becomes the uncompressed name that begins `octets`; none, and nothing to rely on, if none does. A
    /// pointer is not followed: the first name of a message has nothing to point at.
    #[inline]
    pub fn read(&mut self, octets: &[u8]) -> Option<()> {
        let mut root = 0;
        let mut count = 0;
        loop {
            let length = usize::from(*octets.get(root)?);
            if length == 0 {
                break;
            }
            let next = root + 1 + length;
            if length > LONGEST_LABEL || next >= LONGEST {
                return None;
            }
            self.starts[count] = root as u8;
            count += 1;
            root = next;
        }
        let length = root + 1;
        self.lower[..length].copy_from_slice(&octets[..length]);
        // Length octets are below the letters, and what lies behind the name means nothing: all of it is lowered alike.
        for stride in self.lower.as_chunks_mut::<STRIDE>().0.iter_mut().take(length.div_ceil(STRIDE)) {
            stride.make_ascii_lowercase();
        }
        self.length = length as u8;
        self.count = count as u8;
        Some(())
    }

    /// Becomes what a DNAME turns it into (RFC 6672 2.2): its `kept` leftmost labels before `target`, which is
    /// a whole name. None if that is longer than a name can be.
    pub fn redirect(&mut self, kept: usize, target: &[u8]) -> Option<()> {
        let prefix = self.start(kept);
        let mut redirected = [0; LONGEST];
        let end = prefix + target.len();
        redirected[..prefix].copy_from_slice(&self.lower[..prefix]);
        redirected.get_mut(prefix..end)?.copy_from_slice(target);
        self.read(&redirected[..end])
    }

    /// In uncompressed wire format, in lower case.
    #[inline]
    #[must_use]
    pub fn wire(&self) -> &[u8] {
        &self.lower[..usize::from(self.length)]
    }

    /// How many labels, the root not counted.
    #[inline]
    #[must_use]
    pub fn label_count(&self) -> usize {
        usize::from(self.count)
    }

    /// A label, counted from 0 at the left.
    #[inline]
    #[must_use]
    pub fn label(&self, index: usize) -> &[u8] {
        let start = usize::from(self.starts[index]);
        &self.lower[start + 1..start + 1 + usize::from(self.lower[start])]
    }

    /// Where the label begins that is counted from 0 at the left; where the root begins for the label after
    /// the last.
    #[inline]
    #[must_use]
    pub fn start(&self, index: usize) -> usize {
        if index < self.label_count() {
            usize::from(self.starts[index])
        } else {
            usize::from(self.length) - 1
        }
    }
}
