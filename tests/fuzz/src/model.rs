//! What a query says, read once more in another way: index arithmetic and bit by bit, with nothing shared with
//! `nameserver::query`.

/// A query as far as its header, question and OPT go.
pub(crate) struct Model<'m> {
    /// Octets of the one question, QNAME to QCLASS, if it can be read.
    pub(crate) question: Option<&'m [u8]>,
    /// Every record could be read and the OPT stands where it may, at most once.
    pub(crate) is_well_formed: bool,
    /// The first OPT that could be read as a record.
    pub(crate) opt: Option<Opt<'m>>,
}

/// An OPT record's fixed part and its first client subnet.
#[derive(Clone, Copy)]
pub(crate) struct Opt<'m> {
    pub(crate) payload: u16,
    pub(crate) version: u8,
    /// Value of the first option 8, well-formed or not.
    pub(crate) subnet: Option<&'m [u8]>,
}

struct Record<'m> {
    is_at_root: bool,
    rtype: u16,
    class: u16,
    version: u8,
    rdata: &'m [u8],
    end: usize,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from(*bytes.get(at)?) * 256 + u16::from(*bytes.get(at + 1)?))
}

/// Where the name at `at` ends; a pointer, where it is allowed, ends it.
fn name_end(bytes: &[u8], at: usize, may_point: bool) -> Option<usize> {
    let mut end = at;
    while let Some(&length) = bytes.get(end) {
        match length {
            0 => return (end + 1 - at <= 255).then_some(end + 1),
            1..=63 => end += usize::from(length) + 1,
            192.. if may_point => return (end + 2 <= bytes.len()).then_some(end + 2),
            _ => return None,
        }
        if end - at > 255 {
            return None;
        }
    }
    None
}

fn record(bytes: &[u8], at: usize) -> Option<Record<'_>> {
    let fixed = name_end(bytes, at, true)?;
    let length = usize::from(u16_at(bytes, fixed + 8)?);
    Some(Record {
        is_at_root: bytes[at] == 0,
        rtype: u16_at(bytes, fixed)?,
        class: u16_at(bytes, fixed + 2)?,
        version: bytes[fixed + 5],
        rdata: bytes.get(fixed + 10..fixed + 10 + length)?,
        end: fixed + 10 + length,
    })
}

impl<'m> Model<'m> {
    /// Of a message with a whole header.
    pub(crate) fn of(bytes: &'m [u8]) -> Model<'m> {
        let mut model = Model { question: None, is_well_formed: false, opt: None };
        model.is_well_formed = model.read(bytes).is_some();
        model
    }

    fn read(&mut self, bytes: &'m [u8]) -> Option<()> {
        if u16_at(bytes, 4) != Some(1) {
            return None;
        }
        let mut at = name_end(bytes, 12, false)? + 4;
        self.question = Some(bytes.get(12..at)?);
        for section in [6, 8, 10] {
            for _ in 0..u16_at(bytes, section)? {
                let record = record(bytes, at)?;
                at = record.end;
                if record.rtype != 41 {
                    continue;
                }
                if section != 10 {
                    return None;
                }
                let is_second = self.opt.is_some();
                let (subnet, is_whole) = first_subnet(record.rdata);
                self.opt.get_or_insert(Opt { payload: record.class, version: record.version, subnet });
                // Of versions that we do not know, the options are not looked into.
                let is_good = record.version > 0
                    || is_whole && subnet.is_none_or(|value| client_subnet(value).is_some());
                if is_second || !record.is_at_root || !is_good {
                    return None;
                }
            }
        }
        Some(())
    }
}

/// The value of the first option 8, and whether no option is cut short.
fn first_subnet(options: &[u8]) -> (Option<&[u8]>, bool) {
    let mut found = None;
    let mut at = 0;
    while at < options.len() {
        let option = u16_at(options, at).zip(u16_at(options, at + 2));
        let value = option.and_then(|(_, length)| options.get(at + 4..at + 4 + usize::from(length)));
        let (Some((code, length)), Some(value)) = (option, value) else { return (found, false) };
        if code == 8 && found.is_none() {
            found = Some(value);
        }
        at += 4 + usize::from(length);
    }
    (found, true)
}

/// Family, source prefix-length and address of a well-formed client subnet in a query (RFC 7871 6 and 7.1.2).
pub(crate) fn client_subnet(value: &[u8]) -> Option<(u16, u8, &[u8])> {
    if value.len() < 4 {
        return None;
    }
    let family = u16_at(value, 0)?;
    let source = value[2];
    let address = &value[4..];
    let is_known = match family {
        0 => source == 0,
        1 => source <= 32,
        2 => source <= 128,
        _ => false,
    };
    let octets = usize::from(source) / 8 + usize::from(!source.is_multiple_of(8));
    let is_set = |bit: usize| address[bit / 8] & (0x80 >> (bit % 8)) != 0;
    let is_well_formed = is_known
        && value[3] == 0
        && address.len() == octets
        && !(usize::from(source)..octets * 8).any(is_set);
    is_well_formed.then_some((family, source, address))
}
