//! TCP headers and options (RFC 9293, 3.1 and 3.2; RFC 7323; RFC 2018).

use super::checksum::{self, Sum};
use super::{WireError, array, be16, be32};
use std::ops::Range;

/// Bytes of a header without options.
pub const HEADER_SIZE: usize = 20;
/// Bytes of a header with as many options as fit.
pub const HEADER_SIZE_MAX: usize = 60;
/// Bytes of options at most.
pub const OPTIONS_SIZE_MAX: usize = 40;

/// The largest shift count of a window scale (RFC 7323, 2.3).
pub const WINDOW_SCALE_MAX: u8 = 14;

/// The control bits.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags(pub u8);

impl Flags {
    /// No more data from the sender.
    pub const FIN: Flags = Flags(0x01);
    /// Synchronize sequence numbers.
    pub const SYN: Flags = Flags(0x02);
    /// Reset the connection.
    pub const RST: Flags = Flags(0x04);
    /// Push.
    pub const PSH: Flags = Flags(0x08);
    /// The acknowledgement field is valid.
    pub const ACK: Flags = Flags(0x10);

    /// Both sets.
    #[must_use]
    pub const fn with(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }

    /// The bits that are not in `other`.
    #[must_use]
    pub const fn without(self, other: Flags) -> Flags {
        Flags(self.0 & !other.0)
    }

    /// Whether any bit of `other` is set.
    pub const fn has(self, other: Flags) -> bool {
        self.0 & other.0 != 0
    }
}

impl std::fmt::Debug for Flags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (bit, letter) in [(2, 'S'), (1, 'F'), (4, 'R'), (8, 'P'), (16, '.')] {
            if self.0 & bit != 0 {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

/// Bytes of timestamps in a segment, with the padding that Linux puts before them.
pub const TIMESTAMP_SIZE: u16 = 12;
/// Bytes of a SACK option before its blocks, with padding, and of each block.
const SACK_HEAD_SIZE: usize = 4;
const SACK_BLOCK_SIZE: usize = 8;

/// SACK blocks that fit into `room` bytes of options.
pub const fn sack_blocks_in(room: usize) -> usize {
    let count = room.saturating_sub(SACK_HEAD_SIZE) / SACK_BLOCK_SIZE;
    if count < SACK_BLOCKS_MAX { count } else { SACK_BLOCKS_MAX }
}

/// SACK blocks that fit one header.
pub const SACK_BLOCKS_MAX: usize = 4;

/// The supported options. Unknown ones are skipped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Maximum segment size; only in a SYN.
    pub mss: Option<u16>,
    /// Window scale, as it was sent; only in a SYN.
    pub window_scale: Option<u8>,
    /// SACK is supported; only in a SYN.
    pub sack_permitted: bool,
    /// Timestamp value and echo.
    pub timestamp: Option<(u32, u32)>,
    /// SACK blocks, the first `sack_count` of them: left edge, right edge.
    pub sack: [(u32, u32); SACK_BLOCKS_MAX],
    /// The number of blocks.
    pub sack_count: u8,
    /// An option had an impossible length. The options before it are valid (RFC 9293, MUST-7).
    pub malformed: bool,
}

impl Options {
    /// Reads the options of a header. Never fails: a bad length ends the reading.
    #[inline]
    pub fn parse(options: &[u8]) -> Options {
        // The options of nearly every segment of a connection with timestamps (RFC 7323, appendix
        // A).
        if let [1, 1, 8, 10, ..] = options
            && options.len() == 12
        {
            let timestamp = Some((be32(options, 4), be32(options, 8)));
            return Options { timestamp, ..Options::default() };
        }
        Options::parse_any(options)
    }

    fn parse_any(mut options: &[u8]) -> Options {
        let mut parsed = Options::default();
        while let Some((&kind, rest)) = options.split_first() {
            match kind {
                0 => break,
                1 => {
                    options = rest;
                    continue;
                }
                _ => {}
            }
            let size = rest.first().map_or(0, |size| usize::from(*size));
            let Some(option) = options.get(..size).filter(|_| size >= 2) else {
                parsed.malformed = true;
                break;
            };
            parsed.take(kind, option);
            options = &options[size..];
        }
        parsed
    }

    fn take(&mut self, kind: u8, option: &[u8]) {
        match (kind, option.len()) {
            (2, 4) => self.mss = Some(be16(option, 2)),
            (3, 3) => self.window_scale = Some(option[2]),
            (4, 2) => self.sack_permitted = true,
            (5, size) if size >= 10 && (size - 2) % 8 == 0 => {
                // A second SACK option fills what is left.
                let places = self.sack[usize::from(self.sack_count)..].iter_mut();
                for (place, block) in places.zip(option[2..].chunks_exact(8)) {
                    *place = (be32(block, 0), be32(block, 4));
                    self.sack_count += 1;
                }
            }
            (8, 10) => self.timestamp = Some((be32(option, 2), be32(option, 6))),
            (2 | 3 | 4 | 5 | 8, _) => self.malformed = true,
            _ => {}
        }
    }

    /// The blocks.
    pub fn sack_blocks(&self) -> &[(u32, u32)] {
        &self.sack[..usize::from(self.sack_count)]
    }

    /// Writes the options in Linux's order, padded to whole words. Returns their size.
    ///
    /// SYN: mss, then sackOK with ts (or nop nop before either alone), then nop wscale. Others: nop
    /// nop ts, nop nop sack.
    pub fn emit(&self, out: &mut [u8; OPTIONS_SIZE_MAX]) -> usize {
        let mut writer = Writer { out, size: 0 };
        if let Some(mss) = self.mss {
            writer.put(&[2, 4, (mss >> 8) as u8, mss as u8]);
        }
        match (self.sack_permitted, self.timestamp) {
            (true, Some(_)) => writer.put(&[4, 2]),
            (true, None) => writer.put(&[1, 1, 4, 2]),
            (false, Some(_)) => writer.put(&[1, 1]),
            (false, None) => {}
        }
        if let Some((value, echo)) = self.timestamp {
            writer.put(&[8, 10]);
            writer.put(&value.to_be_bytes());
            writer.put(&echo.to_be_bytes());
        }
        if let Some(shift) = self.window_scale {
            writer.put(&[1, 3, 3, shift]);
        }
        let room = sack_blocks_in(OPTIONS_SIZE_MAX - writer.size);
        let blocks = &self.sack_blocks()[..usize::from(self.sack_count).min(room)];
        if !blocks.is_empty() {
            writer.put(&[1, 1, 5, 2 + 8 * blocks.len() as u8]);
            for (left, right) in blocks {
                writer.put(&left.to_be_bytes());
                writer.put(&right.to_be_bytes());
            }
        }
        writer.size
    }
}

struct Writer<'a> {
    out: &'a mut [u8; OPTIONS_SIZE_MAX],
    size: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) {
        if let Some(place) = self.out.get_mut(self.size..self.size + bytes.len()) {
            place.copy_from_slice(bytes);
            self.size += bytes.len();
        }
    }
}

/// Where the fields are.
mod field {
    use super::Range;

    pub(super) const SOURCE_PORT: Range<usize> = 0..2;
    pub(super) const DESTINATION_PORT: Range<usize> = 2..4;
    pub(super) const SEQUENCE: Range<usize> = 4..8;
    pub(super) const ACKNOWLEDGEMENT: Range<usize> = 8..12;
    pub(super) const DATA_OFFSET: usize = 12;
    pub(super) const FLAGS: usize = 13;
    pub(super) const WINDOW: Range<usize> = 14..16;
    pub(super) const CHECKSUM: Range<usize> = 16..18;
}

/// The bytes of a segment, by field.
#[derive(Clone, Copy, Debug)]
pub struct Packet<T>(T);

impl<T: AsRef<[u8]>> Packet<T> {
    /// Takes bytes that are long enough for a header without options.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    #[inline]
    pub fn new_checked(bytes: T) -> Result<Packet<T>, WireError> {
        if bytes.as_ref().len() < HEADER_SIZE { Err(WireError::Truncated) } else { Ok(Packet(bytes)) }
    }

    /// The sequence number of the first byte.
    pub fn sequence(&self) -> u32 {
        be32(self.0.as_ref(), field::SEQUENCE.start)
    }

    /// The control bits.
    pub fn flags(&self) -> Flags {
        Flags(self.0.as_ref()[field::FLAGS])
    }

    /// The checksum field.
    pub fn checksum(&self) -> u16 {
        be16(self.0.as_ref(), field::CHECKSUM.start)
    }
}

impl<T: AsRef<[u8]> + AsMut<[u8]>> Packet<T> {
    /// Changes the sequence number.
    pub fn set_sequence(&mut self, sequence: u32) {
        self.0.as_mut()[field::SEQUENCE].copy_from_slice(&sequence.to_be_bytes());
    }

    /// Changes the control bits.
    pub fn set_flags(&mut self, flags: Flags) {
        self.0.as_mut()[field::FLAGS] = flags.0;
    }

    /// Changes the checksum field.
    #[inline]
    pub fn set_checksum(&mut self, checksum: u16) {
        self.0.as_mut()[field::CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
    }

    /// Computes the checksum. `pseudo` is the sum of the pseudo-header.
    pub fn fill_checksum(&mut self, pseudo: Sum) {
        self.set_checksum(0);
        self.set_checksum(pseudo.bytes(self.0.as_ref()).finish());
    }

    /// Completes a checksum field that holds the sum of the pseudo-header, as a card does.
    pub fn complete_checksum(&mut self) {
        self.set_checksum(Sum::ZERO.bytes(self.0.as_ref()).finish());
    }

    /// Changes the length in the pseudo-header's sum, which the checksum field holds.
    pub fn change_pseudo_length(&mut self, old: u16, new: u16) {
        self.set_checksum(!checksum::update(!self.checksum(), old, new));
    }
}

/// The first 8 bytes of a segment, which errors quote (RFC 792).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quote {
    /// The sender's port.
    pub source_port: u16,
    /// The receiver's port.
    pub destination_port: u16,
    /// Sequence number of the first byte.
    pub sequence: u32,
}

impl Quote {
    /// Reads the beginning of a segment.
    ///
    /// # Errors
    /// [`WireError::Truncated`].
    pub fn parse(segment: &[u8]) -> Result<Quote, WireError> {
        let fixed: [u8; 8] = array(segment, 0).ok_or(WireError::Truncated)?;
        Ok(Quote {
            source_port: be16(&fixed, field::SOURCE_PORT.start),
            destination_port: be16(&fixed, field::DESTINATION_PORT.start),
            sequence: be32(&fixed, field::SEQUENCE.start),
        })
    }
}

/// A header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// The sender's port.
    pub source_port: u16,
    /// The receiver's port.
    pub destination_port: u16,
    /// Sequence number of the first byte, or of the SYN.
    pub sequence: u32,
    /// Next sequence number expected; valid with [`Flags::ACK`].
    pub acknowledgement: u32,
    /// Control bits.
    pub flags: Flags,
    /// Window as on the wire, not scaled.
    pub window: u16,
    /// Bytes of the header, including options.
    pub header_size: u8,
    /// Options.
    pub options: Options,
}

impl Tcp {
    /// Reads a header. The checksum is not checked.
    ///
    /// # Errors
    /// [`WireError::Truncated`], [`WireError::BadLength`].
    #[inline]
    pub fn parse(segment: &[u8]) -> Result<Tcp, WireError> {
        let fixed: [u8; HEADER_SIZE] = array(segment, 0).ok_or(WireError::Truncated)?;
        let header_size = usize::from(fixed[field::DATA_OFFSET] >> 4) * 4;
        if header_size < HEADER_SIZE {
            return Err(WireError::BadLength);
        }
        let options = segment.get(HEADER_SIZE..header_size).ok_or(WireError::Truncated)?;
        Ok(Tcp {
            source_port: be16(&fixed, field::SOURCE_PORT.start),
            destination_port: be16(&fixed, field::DESTINATION_PORT.start),
            sequence: be32(&fixed, field::SEQUENCE.start),
            acknowledgement: be32(&fixed, field::ACKNOWLEDGEMENT.start),
            flags: Flags(fixed[field::FLAGS]),
            window: be16(&fixed, field::WINDOW.start),
            header_size: header_size as u8,
            options: Options::parse(options),
        })
    }

    /// Writes the header, with checksum and urgent pointer zero. Returns its size.
    ///
    /// # Panics
    /// If `out` is shorter than the header; [`HEADER_SIZE_MAX`] is always enough.
    #[inline]
    pub fn emit(&self, out: &mut [u8]) -> usize {
        let mut options = [0; OPTIONS_SIZE_MAX];
        let options_size = self.options.emit(&mut options);
        let size = HEADER_SIZE + options_size;
        out[field::SOURCE_PORT].copy_from_slice(&self.source_port.to_be_bytes());
        out[field::DESTINATION_PORT].copy_from_slice(&self.destination_port.to_be_bytes());
        out[field::SEQUENCE].copy_from_slice(&self.sequence.to_be_bytes());
        out[field::ACKNOWLEDGEMENT].copy_from_slice(&self.acknowledgement.to_be_bytes());
        out[field::DATA_OFFSET] = (size as u8 / 4) << 4;
        out[field::FLAGS] = self.flags.0;
        out[field::WINDOW].copy_from_slice(&self.window.to_be_bytes());
        out[field::CHECKSUM.start..HEADER_SIZE].fill(0);
        out[HEADER_SIZE..size].copy_from_slice(&options[..options_size]);
        size
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn syn() -> Options {
        Options {
            mss: Some(1460),
            window_scale: Some(7),
            sack_permitted: true,
            timestamp: Some((1, 0)),
            ..Options::default()
        }
    }

    #[test]
    fn syn_options_stand_in_linuxs_order() {
        let mut out = [0; OPTIONS_SIZE_MAX];
        let size = syn().emit(&mut out);
        assert_eq!(out[..size], [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7]);
        let without = Options { timestamp: None, ..syn() };
        let size = without.emit(&mut out);
        assert_eq!(out[..size], [2, 4, 5, 180, 1, 1, 4, 2, 1, 3, 3, 7]);
    }

    #[test]
    fn options_come_back_as_they_were() {
        let mut sack = Options { timestamp: Some((9, 8)), sack_count: 3, ..Options::default() };
        sack.sack[..3].copy_from_slice(&[(1, 2), (3, 4), (5, 6)]);
        for options in
            [syn(), sack, Options::default(), Options { timestamp: Some((1, 2)), ..Options::default() }]
        {
            let mut out = [0; OPTIONS_SIZE_MAX];
            let size = options.emit(&mut out);
            assert_eq!(size % 4, 0);
            assert_eq!(Options::parse(&out[..size]), options);
        }
    }

    #[test]
    fn hostile_options_end_the_reading_and_nothing_else() {
        assert!(Options::parse(&[2, 0]).malformed);
        assert!(Options::parse(&[2]).malformed);
        assert!(Options::parse(&[8, 40, 1]).malformed);
        assert!(Options::parse(&[1, 1, 1, 2, 4, 5, 180, 3, 1]).malformed);
        assert_eq!(Options::parse(&[2, 4, 5, 180, 99, 1]).mss, Some(1460));
        let twice = Options::parse(&[[5, 18].as_slice(), &[7; 16], &[5, 18], &[9; 16]].concat());
        assert_eq!(twice.sack_count, 4);
        let thrice = Options::parse(&[[5, 26].as_slice(), &[7; 24], &[5, 10], &[9; 8], &[5, 10]].concat());
        assert!(usize::from(thrice.sack_count) <= SACK_BLOCKS_MAX);
    }

    #[test]
    fn a_header_comes_back_as_it_was() {
        let mut header = Tcp {
            source_port: 1,
            destination_port: 2,
            sequence: 3,
            acknowledgement: 4,
            flags: Flags::ACK.with(Flags::PSH),
            window: 5,
            header_size: 0,
            options: syn(),
        };
        let mut out = [0; HEADER_SIZE_MAX];
        header.header_size = header.emit(&mut out) as u8;
        assert_eq!(Tcp::parse(&out[..usize::from(header.header_size)]), Ok(header));
        assert_eq!(Tcp::parse(&out[..39]), Err(WireError::Truncated));
        out[12] = 0x40;
        assert_eq!(Tcp::parse(&out), Err(WireError::BadLength));
    }

    #[test]
    fn fields_of_a_segment_change_by_themselves() {
        let mut out = [0; HEADER_SIZE + 10];
        let header = Tcp {
            source_port: 1,
            destination_port: 2,
            sequence: 3,
            acknowledgement: 4,
            flags: Flags::ACK.with(Flags::PSH).with(Flags::FIN),
            window: 5,
            header_size: HEADER_SIZE as u8,
            options: Options::default(),
        };
        header.emit(&mut out);
        assert_eq!(Quote::parse(&out[..8]), Ok(Quote { source_port: 1, destination_port: 2, sequence: 3 }));
        let mut segment = Packet::new_checked(&mut out[..]).unwrap();
        segment.set_sequence(9);
        segment.set_flags(segment.flags().without(Flags::PSH.with(Flags::FIN)));
        assert_eq!(Tcp::parse(&out), Ok(Tcp { sequence: 9, flags: Flags::ACK, ..header }));
    }

    #[test]
    fn a_card_completes_what_the_stack_has_begun() {
        let mut out = [7; HEADER_SIZE + 10];
        let pseudo = |length: u16| Sum::ZERO.word(6).word(length);
        let mut segment = Packet::new_checked(&mut out[..]).unwrap();
        segment.set_checksum(pseudo(100).fold());
        segment.change_pseudo_length(100, 30);
        segment.complete_checksum();
        assert!(checksum::is_correct(pseudo(30), &out));
    }

    #[test]
    fn blocks_fit_beside_timestamps_and_alone() {
        let beside = OPTIONS_SIZE_MAX - usize::from(TIMESTAMP_SIZE);
        assert_eq!((sack_blocks_in(OPTIONS_SIZE_MAX), sack_blocks_in(beside), sack_blocks_in(11)), (4, 3, 0));
    }
}
