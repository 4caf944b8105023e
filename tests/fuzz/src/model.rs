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
    /// There is a TSIG.
    pub(crate) is_signed: bool,
}

/// An OPT record's fixed part, its first client subnet and its first cookie.
#[derive(Clone, Copy)]
pub(crate) struct Opt<'m> {
    pub(crate) payload: u16,
    pub(crate) version: u8,
    /// Value of the first option 8, well-formed or not.
    pub(crate) subnet: Option<&'m [u8]>,
    /// Value of the first option 10, well-formed or not.
    pub(crate) cookie: Option<&'m [u8]>,
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
        if end - at >= 255 {
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
        let mut model = Model { question: None, is_well_formed: false, opt: None, is_signed: false };
        model.is_well_formed = model.read(bytes).is_some();
        model
    }

    fn read(&mut self, bytes: &'m [u8]) -> Option<()> {
        let mut at = 12;
        match u16_at(bytes, 4)? {
            0 => {}
            1 => {
                at = name_end(bytes, 12, false)? + 4;
                self.question = Some(bytes.get(12..at)?);
            }
            _ => return None,
        }
        let mut is_good = true;
        for section in [6, 8, 10] {
            let count = u16_at(bytes, section)?;
            for number in 0..count {
                let start = at;
                let record = record(bytes, at)?;
                at = record.end;
                match record.rtype {
                    41 if section == 10 => is_good &= self.read_opt(&record),
                    41 => is_good = false,
                    250 => {
                        self.is_signed = true;
                        is_good &=
                            section == 10 && number + 1 == count && is_signature(bytes, start, &record);
                    }
                    _ => {}
                }
            }
        }
        let has_cookie = self.opt.is_some_and(|opt| opt.version == 0 && opt.cookie.is_some());
        (is_good && (self.question.is_some() || has_cookie)).then_some(())
    }

    fn read_opt(&mut self, record: &Record<'m>) -> bool {
        let is_second = self.opt.is_some();
        let (subnet, cookie, is_whole) = first_options(record.rdata);
        self.opt.get_or_insert(Opt { payload: record.class, version: record.version, subnet, cookie });
        // Of versions that we do not know, the options are not looked into.
        let is_good = record.version > 0
            || is_whole
                && subnet.is_none_or(|value| client_subnet(value).is_some())
                && cookie.is_none_or(|value| matches!(value.len(), 8 | 16..=40));
        !is_second && record.is_at_root && is_good
    }
}

/// A TSIG with whole, uncompressed names and as many octets as it says.
fn is_signature(bytes: &[u8], start: usize, record: &Record<'_>) -> bool {
    let rdata = record.rdata;
    let rest = || {
        name_end(bytes, start, false)?;
        let at = name_end(rdata, 0, false)? + 8;
        let at = at + 2 + usize::from(u16_at(rdata, at)?) + 4;
        Some(at + 2 + usize::from(u16_at(rdata, at)?))
    };
    rest() == Some(rdata.len())
}

/// The values of the first options 8 and 10, and whether no option is cut short.
fn first_options(options: &[u8]) -> (Option<&[u8]>, Option<&[u8]>, bool) {
    let (mut subnet, mut cookie) = (None, None);
    let mut at = 0;
    while at < options.len() {
        let option = u16_at(options, at).zip(u16_at(options, at + 2));
        let value = option.and_then(|(_, length)| options.get(at + 4..at + 4 + usize::from(length)));
        let (Some((code, length)), Some(value)) = (option, value) else { return (subnet, cookie, false) };
        match code {
            8 => subnet = subnet.or(Some(value)),
            10 => cookie = cookie.or(Some(value)),
            _ => {}
        }
        at += 4 + usize::from(length);
    }
    (subnet, cookie, true)
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
