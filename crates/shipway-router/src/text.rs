//! Numbers and addresses as text, for every request: `write!` costs ten times as much.

use std::io::Write;
use std::net::IpAddr;

/// Appends `number` in decimal.
pub fn number(text: &mut Vec<u8>, mut number: u64) {
    // The longest u64 has 20 digits.
    let mut digits = [0; 20];
    let mut from = digits.len();
    loop {
        from -= 1;
        digits[from] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    text.extend_from_slice(&digits[from..]);
}

/// Appends an address as its `Display` writes it.
pub fn ip(text: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            // Four times three digits and the dots between them.
            let mut digits = [0; 15];
            let mut length = 0;
            let mut push = |byte| {
                digits[length] = byte;
                length += 1;
            };
            for (place, octet) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    push(b'.');
                }
                if octet >= 100 {
                    push(b'0' + octet / 100);
                }
                if octet >= 10 {
                    push(b'0' + octet / 10 % 10);
                }
                push(b'0' + octet % 10);
            }
            text.extend_from_slice(&digits[..length]);
        }
        IpAddr::V6(address) => {
            // Writing to a vector cannot fail.
            let _ = write!(text, "{address}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_addresses_are_written_as_their_display_writes_them() {
        for n in [0, 7, 10, 99, 100, 4096, u64::from(u32::MAX), u64::MAX] {
            let mut text = Vec::new();
            number(&mut text, n);
            assert_eq!(text, n.to_string().as_bytes());
        }
        for address in ["0.0.0.0", "127.0.0.1", "255.10.203.9", "::1", "2001:db8::7"] {
            let mut text = Vec::new();
            ip(&mut text, address.parse().unwrap());
            assert_eq!(text, address.as_bytes());
        }
    }
}
