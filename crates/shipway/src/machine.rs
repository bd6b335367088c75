//! What a server says of its machine to whoever asks for findings.

use crate::home;
use shipway_engine::{Finding, Gravity};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Less free space than this is worth a word.
pub const LITTLE_BYTES: u64 = 2 << 30;
/// A certificate that ends sooner is: long enough to get another one.
const SOON: Duration = Duration::from_secs(21 * 86_400);

/// The operator's certificate: its file, and when it ends.
pub type Ends = (PathBuf, SystemTime);

/// What there is to say now.
pub fn findings(home: &Path, certificate: Option<&Ends>, now: SystemTime) -> Vec<Finding> {
    let free = home::free_bytes(home).ok();
    let disk = free.and_then(|free| disk(home, free));
    disk.into_iter().chain(certificate.and_then(|(path, ends)| ending(path, *ends, now))).collect()
}

fn disk(home: &Path, free: u64) -> Option<Finding> {
    (free < LITTLE_BYTES).then(|| Finding {
        gravity: Gravity::Warning,
        about: "disk",
        what: format!("disk: {} MiB are free for {}", free >> 20, home.display()),
        next: vec!["make room: builds and logs need it".into()],
    })
}

fn ending(path: &Path, ends: SystemTime, now: SystemTime) -> Option<Finding> {
    let path = path.display();
    let (gravity, when) = match ends.duration_since(now) {
        Ok(left) if left > SOON => return None,
        Ok(left) => (Gravity::Warning, format!("ends in {} days", left.as_secs() / 86_400)),
        Err(_) => (Gravity::Problem, "has ended: clients refuse it".into()),
    };
    Some(Finding {
        gravity,
        about: "certificate",
        what: format!("certificate: {path}, as the server has read it, {when}"),
        next: vec!["renew it, then start all that has read it anew: shipway down && bin/up".into()],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_room_and_a_certificate_near_its_end_are_told() {
        let home = Path::new("/srv/shipway");
        assert_eq!(disk(home, LITTLE_BYTES), None);
        assert_eq!(disk(home, 700 << 20).unwrap().what, "disk: 700 MiB are free for /srv/shipway");
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100 * 86_400);
        let check = |days: u64, expected: Option<(Gravity, &str)>| {
            let ends = SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400);
            let found = ending(Path::new("/etc/tls.pem"), ends, now);
            let words = found.map(|finding| (finding.gravity, finding.what));
            let expected = expected.map(|(gravity, when)| {
                (gravity, format!("certificate: /etc/tls.pem, as the server has read it, {when}"))
            });
            assert_eq!(words, expected, "{days}");
        };
        check(122, None);
        check(121, Some((Gravity::Warning, "ends in 21 days")));
        check(100, Some((Gravity::Warning, "ends in 0 days")));
        check(99, Some((Gravity::Problem, "has ended: clients refuse it")));
    }
}
