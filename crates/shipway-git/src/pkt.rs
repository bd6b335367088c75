//! Packet lines: four hex digits of length, then the payload; `0000` ends a section.
//! Source: git, `Documentation/gitprotocol-common`.

use std::io::{self, Read, Write};

/// The longest payload of a packet.
pub(crate) const MAX_PAYLOAD: usize = 65_516;

/// One packet as it goes over the wire.
pub(crate) fn packet(payload: &[u8]) -> Vec<u8> {
    debug_assert!(payload.len() <= MAX_PAYLOAD);
    let mut packet = format!("{:04x}", payload.len() + 4).into_bytes();
    packet.extend_from_slice(payload);
    packet
}

/// Ends a section.
pub(crate) const FLUSH: &[u8] = b"0000";

/// Reads packets up to a flush.
pub(crate) fn read_section(input: &mut impl Read) -> io::Result<Vec<Vec<u8>>> {
    let mut packets = Vec::new();
    loop {
        let mut length = [0; 4];
        input.read_exact(&mut length)?;
        let length = std::str::from_utf8(&length).ok().and_then(|hex| usize::from_str_radix(hex, 16).ok());
        match length {
            Some(0) => return Ok(packets),
            Some(length @ 4..) => {
                let mut payload = vec![0; length - 4];
                input.read_exact(&mut payload)?;
                packets.push(payload);
            }
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "not a packet line")),
        }
    }
}

/// Writes packets and a flush.
pub(crate) fn write_section<T: AsRef<[u8]>>(
    output: &mut impl Write,
    payloads: impl IntoIterator<Item = T>,
) -> io::Result<()> {
    for payload in payloads {
        output.write_all(&packet(payload.as_ref()))?;
    }
    output.write_all(FLUSH)?;
    output.flush()
}
