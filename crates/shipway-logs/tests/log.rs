//! Chains are written, torn, rotated, merged, followed, resumed and pruned.

use shipway_logs::{Entry, EventId, Filter, Limits, Reader, Record, Source, Writer, prune};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

const LATER: u64 = u64::MAX / 2;

fn small() -> Limits {
    Limits { segment_bytes: 4096 }
}

fn filter(source: Option<Source>, dyno: &str) -> Filter {
    Filter { source, dyno: (!dyno.is_empty()).then(|| dyno.to_string()) }
}

fn texts(lines: &[Entry]) -> Vec<String> {
    lines.iter().map(|line| String::from_utf8_lossy(&line.message).into_owned()).collect()
}

fn rest(reader: &mut Reader) -> Vec<Entry> {
    let mut lines = Vec::new();
    while reader.poll(LATER, lines.len() + 100, &mut lines).unwrap() {}
    lines
}

/// Follows until `count` lines have come; a chain that had no writer is looked at once a second.
fn follow(reader: &mut Reader, count: usize) -> Vec<Entry> {
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut lines = Vec::new();
    while lines.len() < count {
        assert!(Instant::now() < deadline, "only {} lines", lines.len());
        if !reader.poll(LATER, lines.len() + 1000, &mut lines).unwrap() {
            std::thread::sleep(reader.pause());
        }
    }
    lines
}

fn all(app: &Path) -> Vec<Entry> {
    rest(&mut Reader::oldest(app, Filter::default()).unwrap())
}

fn segments(chain: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = std::fs::read_dir(chain).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

#[test]
fn chains_merge_by_time_and_continue_where_they_ended() {
    let app = tempfile::tempdir().unwrap();
    let mut web = Writer::open(app.path(), "a", small()).unwrap();
    let mut router = Writer::open(app.path(), "router", small()).unwrap();
    assert_eq!(web.append(10, Source::App, "web.1", b"one").unwrap(), 1);
    assert_eq!(router.append(20, Source::Heroku, "router", b"two").unwrap(), 1);
    assert_eq!(web.append(30, Source::App, "web.1", b"three").unwrap(), 2);
    drop(web);
    let mut web = Writer::open(app.path(), "a", small()).unwrap();
    assert_eq!(web.append(40, Source::App, "web.1", b"four").unwrap(), 3);
    assert_eq!(texts(&all(app.path())), ["one", "two", "three", "four"]);
    let mode = segments(&app.path().join("a"))[0].metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
}

#[test]
fn a_chain_keeps_its_order_when_the_clock_is_set_back() {
    let app = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(app.path(), "a", small()).unwrap();
    for (time, text) in [(5_000_000, "a"), (4_999_000, "b"), (1_000_000, "c"), (1_000_001, "d")] {
        writer.append(time, Source::App, "web.1", text.as_bytes()).unwrap();
    }
    let lines = all(app.path());
    assert_eq!(texts(&lines), ["a", "b", "c", "d"]);
    let times: Vec<u64> = lines.iter().map(|line| line.id.time_us).collect();
    assert_eq!(times, [5_000_000, 5_000_000, 1_000_000, 1_000_001], "a small step is smoothed, a large one believed");
}

#[test]
fn a_torn_last_record_is_cut_off_at_every_byte() {
    let whole = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(whole.path(), "a", small()).unwrap();
    writer.append(1, Source::App, "web.1", b"first").unwrap();
    let kept = segments(&whole.path().join("a"))[0].metadata().unwrap().len();
    writer.append(2, Source::App, "web.1", b"second").unwrap();
    let bytes = std::fs::read(&segments(&whole.path().join("a"))[0]).unwrap();
    for cut in 0..bytes.len() {
        let app = tempfile::tempdir().unwrap();
        let chain = app.path().join("a");
        std::fs::create_dir(&chain).unwrap();
        std::fs::write(chain.join(format!("{:020}.seg", 1)), &bytes[..cut]).unwrap();
        let survivors: &[&str] = if cut as u64 >= kept { &["first"] } else { &[] };
        let (lines, mut reader) = Reader::last(app.path(), Filter::default(), 10).unwrap();
        assert_eq!(texts(&lines), survivors, "cut at {cut}");
        let mut writer = Writer::open(app.path(), "a", small()).unwrap();
        assert_eq!(writer.append(3, Source::App, "web.1", b"after").unwrap(), survivors.len() as u64 + 1);
        // Every cut is tried with a new reader; one in fifty also with a reader that was there before.
        if cut % 50 == 0 {
            assert_eq!(texts(&follow(&mut reader, 1)), ["after"], "a reader that was there, cut at {cut}");
        }
        let mut expected = survivors.to_vec();
        expected.push("after");
        assert_eq!(texts(&all(app.path())), expected, "cut at {cut}");
    }
}

#[test]
fn garbage_and_zeros_at_the_end_are_cut_off() {
    for garbage in [vec![0; 5000], vec![0xff; 77], b"shiplog1".repeat(100)] {
        let app = tempfile::tempdir().unwrap();
        let mut writer = Writer::open(app.path(), "a", small()).unwrap();
        writer.append(1, Source::App, "web.1", b"first").unwrap();
        drop(writer);
        let path = &segments(&app.path().join("a"))[0];
        let mut bytes = std::fs::read(path).unwrap();
        bytes.extend_from_slice(&garbage);
        std::fs::write(path, bytes).unwrap();
        let (lines, _) = Reader::last(app.path(), Filter::default(), 10).unwrap();
        assert_eq!(texts(&lines), ["first"]);
        let mut writer = Writer::open(app.path(), "a", small()).unwrap();
        writer.append(2, Source::App, "web.1", b"second").unwrap();
        assert_eq!(texts(&all(app.path())), ["first", "second"]);
    }
}

#[test]
fn output_that_imitates_a_record_is_only_output() {
    let app = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(app.path(), "a", small()).unwrap();
    writer.append(1, Source::App, "web.1", b"first").unwrap();
    // A dyno that could read its own segment's neighbour would send a record of that one.
    let mut other = Writer::open(app.path(), "b", small()).unwrap();
    other.append(2, Source::Heroku, "api", b"forged").unwrap();
    let forged = std::fs::read(&segments(&app.path().join("b"))[0]).unwrap()[16..].to_vec();
    drop(other);
    std::fs::remove_dir_all(app.path().join("b")).unwrap();
    let before = segments(&app.path().join("a"))[0].metadata().unwrap().len();
    writer.append(3, Source::App, "web.1", &forged).unwrap();
    drop(writer);
    // Torn exactly where the imitation ends.
    let path = &segments(&app.path().join("a"))[0];
    let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(before + 8 + 18 + 5 + forged.len() as u64).unwrap();
    let (lines, _) = Reader::last(app.path(), Filter::default(), 10).unwrap();
    assert_eq!(texts(&lines), ["first"]);
}

#[test]
fn last_follows_and_filters_over_many_segments() {
    let app = tempfile::tempdir().unwrap();
    let mut web = Writer::open(app.path(), "a", small()).unwrap();
    let mut worker = Writer::open(app.path(), "b", small()).unwrap();
    let mut platform = Writer::open(app.path(), "platform", small()).unwrap();
    for i in 0..1000_u64 {
        web.append(i * 10, Source::App, "web.1", format!("web {i}").as_bytes()).unwrap();
        worker.append(i * 10 + 1, Source::App, "worker.1", format!("worker {i}").as_bytes()).unwrap();
        if i % 100 == 0 {
            platform.append(i * 10 + 2, Source::Heroku, "web.1", format!("state {i}").as_bytes()).unwrap();
        }
    }
    assert!(segments(&app.path().join("a")).len() > 5);
    let last = |source, dyno, count| {
        let (lines, reader) = Reader::last(app.path(), filter(source, dyno), count).unwrap();
        (texts(&lines), reader)
    };
    assert_eq!(last(None, "", 3).0, ["worker 998", "web 999", "worker 999"]);
    assert_eq!(last(Some(Source::Heroku), "", 2).0, ["state 800", "state 900"]);
    assert_eq!(last(None, "worker", 1).0, ["worker 999"]);
    assert_eq!(last(Some(Source::Heroku), "worker", 5).0, [""; 0]);
    assert_eq!(last(None, "", 5000).0.len(), 2010);
    assert_eq!(last(None, "", 5000).0, texts(&all(app.path())));
    let (none, mut tail) = last(None, "web.1", 0);
    assert!(none.is_empty());
    for i in 1000..2000_u64 {
        web.append(i * 10, Source::App, "web.1", format!("web {i}").as_bytes()).unwrap();
        worker.append(i * 10, Source::App, "worker.1", b"not asked for").unwrap();
    }
    let followed = texts(&rest(&mut tail));
    assert_eq!(followed, (1000..2000).map(|i| format!("web {i}")).collect::<Vec<_>>());
    let mut new = Writer::open(app.path(), "c", small()).unwrap();
    new.append(30_000, Source::App, "web.1", b"from a new dyno").unwrap();
    assert_eq!(texts(&rest(&mut tail)), ["from a new dyno"]);
}

#[test]
fn a_follower_resumes_after_each_event() {
    let app = tempfile::tempdir().unwrap();
    let mut writers: Vec<Writer> =
        ["a", "b-b", "c"].iter().map(|name| Writer::open(app.path(), name, small()).unwrap()).collect();
    for i in 0..300_u64 {
        // Equal times in different chains, and a chain that sleeps.
        let writer = (i * 7 % 5 % 3) as usize;
        writers[writer].append(i / 4, Source::App, "web.1", &i.to_string().into_bytes().repeat(30)).unwrap();
    }
    let lines = all(app.path());
    assert_eq!(lines.len(), 300);
    for (place, line) in lines.iter().enumerate() {
        let id: EventId = line.id.to_string().parse().unwrap();
        let mut reader = Reader::after(app.path(), Filter::default(), &id).unwrap();
        let rest = rest(&mut reader);
        assert!(rest == lines[place + 1..], "after {id}: {} instead of {}", rest.len(), 299 - place);
    }
}

#[test]
fn a_line_settles_before_it_is_given_out() {
    let app = tempfile::tempdir().unwrap();
    let mut a = Writer::open(app.path(), "a", small()).unwrap();
    let mut b = Writer::open(app.path(), "b", small()).unwrap();
    let (_, mut reader) = Reader::last(app.path(), Filter::default(), 0).unwrap();
    let mut lines = Vec::new();
    a.append(1_000_000, Source::App, "web.1", b"late").unwrap();
    assert!(!reader.poll(1_005_000, 100, &mut lines).unwrap());
    b.append(999_000, Source::App, "web.2", b"early").unwrap();
    reader.poll(1_010_000, 100, &mut lines).unwrap();
    assert_eq!(texts(&lines), ["early", "late"]);
    assert_eq!(reader.pause(), Duration::from_millis(10));
    a.append(9_000_000, Source::App, "web.1", b"under another clock").unwrap();
    lines.clear();
    reader.poll(1_020_000, 100, &mut lines).unwrap();
    assert_eq!(texts(&lines), ["under another clock"]);
}

#[test]
fn a_chain_has_one_writer() {
    let app = tempfile::tempdir().unwrap();
    let first = Writer::open(app.path(), "a", small()).unwrap();
    assert_eq!(Writer::open(app.path(), "a", small()).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    drop(first);
    Writer::open(app.path(), "a", small()).unwrap();
    for name in ["", ".", "..", "a/b", "a\0b", ".hidden"] {
        assert_eq!(Writer::open(app.path(), name, small()).unwrap_err().kind(), std::io::ErrorKind::InvalidInput);
    }
}

#[test]
fn attack_09_symbolic_links_in_the_log_directory_are_not_followed() {
    let app = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), app.path().join("a")).unwrap();
    assert!(Writer::open(app.path(), "a", small()).is_err());
    std::fs::create_dir(app.path().join("b")).unwrap();
    let victim = outside.path().join("victim");
    std::fs::write(&victim, "precious").unwrap();
    std::os::unix::fs::symlink(&victim, app.path().join("b").join(format!("{:020}.seg", 1))).unwrap();
    assert!(Writer::open(app.path(), "b", small()).is_err());
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "precious");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 1);
}

#[test]
fn too_long_a_line_is_refused_and_nothing_of_its_batch_written() {
    let app = tempfile::tempdir().unwrap();
    let mut writer = Writer::open(app.path(), "a", small()).unwrap();
    let long = vec![b'x'; shipway_logs::MAX_MESSAGE + 1];
    let record = |message| Record { time_us: 1, sequence: 0, source: Source::App, dyno: "web.1", message };
    assert!(writer.append_batch(&[record(b"good"), record(&long)]).is_err());
    assert_eq!(writer.append_batch(&[record(b"kept"), record(&long[1..])]).unwrap(), 2);
    assert_eq!(all(app.path()).len(), 2);
    assert_eq!(Reader::last(app.path(), Filter::default(), 2).unwrap().0[1].message.len(), shipway_logs::MAX_MESSAGE);
}

#[test]
fn pruning_keeps_what_is_written_and_forgets_what_ended() {
    let app = tempfile::tempdir().unwrap();
    let mut live = Writer::open(app.path(), "live", small()).unwrap();
    let mut ended = Writer::open(app.path(), "ended", small()).unwrap();
    for i in 0..500_u64 {
        live.append(i, Source::App, "web.1", b"some line of a certain length").unwrap();
        ended.append(i, Source::App, "web.2", b"some line of a certain length").unwrap();
    }
    drop(ended);
    let mut reader = Reader::oldest(app.path(), Filter::default()).unwrap();
    let (now, year) = (SystemTime::now(), Duration::from_secs(365 * 86_400));
    assert_eq!(prune(app.path(), u64::MAX, year, now).unwrap().segments, 0);
    let half = prune(app.path(), 20_000, year, now).unwrap();
    assert!(half.left_bytes <= 20_000 && half.left_bytes > 12_000, "{half:?}");
    let rest_of_it = prune(app.path(), u64::MAX, year, now + 2 * year).unwrap();
    assert!(rest_of_it.left_bytes <= 4096, "{rest_of_it:?}");
    assert_eq!(segments(&app.path().join("live")).len(), 1);
    assert!(!app.path().join("ended").exists());
    assert_eq!(live.append(500, Source::App, "web.1", b"goes on").unwrap(), 501);
    assert_eq!(texts(&rest(&mut reader)).last().unwrap(), "goes on");
    let mut again = Writer::open(app.path(), "ended", small()).unwrap();
    assert_eq!(again.append(501, Source::App, "web.2", b"begins anew").unwrap(), 1);
    assert_eq!(texts(&follow(&mut reader, 1)), ["begins anew"]);
}

#[test]
fn a_reader_sees_every_line_of_a_writer_in_another_thread_once_and_in_order() {
    let app = tempfile::tempdir().unwrap();
    let count = 30_000_u64;
    let mut writer = Writer::open(app.path(), "a", Limits { segment_bytes: 64 << 10 }).unwrap();
    let thread = std::thread::spawn(move || {
        for i in 0..count {
            writer.append(i, Source::App, "web.1", &vec![b'x'; (i % 300) as usize]).unwrap();
        }
    });
    let mut reader = Reader::oldest(app.path(), Filter::default()).unwrap();
    let lines = follow(&mut reader, count as usize);
    thread.join().unwrap();
    assert!(lines.iter().map(|line| line.id.sequence).eq(1..=count));
}

#[test]
fn a_follower_lives_through_a_chain_that_it_may_not_open_yet() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root's files can be closed to somebody");
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let app = home.path();
    std::fs::set_permissions(app, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut open = Writer::open(app, "router", small()).unwrap();
    open.append(1, Source::Heroku, "router", b"before").unwrap();
    let mut closed = Writer::open(app, "shim", small()).unwrap();
    closed.append(2, Source::App, "web.1", b"closed").unwrap();
    for path in [app.join("router"), segments(&app.join("router")).remove(0), segments(&app.join("shim")).remove(0)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::set_permissions(app.join("shim"), std::fs::Permissions::from_mode(0o700)).unwrap();
    let path = app.to_path_buf();
    // The user of this thread alone.
    let follower = std::thread::spawn(move || {
        rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(65534)).unwrap();
        let mut reader = Reader::oldest(&path, Filter::default()).unwrap();
        let first = texts(&follow(&mut reader, 1));
        (first, reader)
    });
    let (first, mut reader) = follower.join().unwrap();
    assert_eq!(first, ["before"]);
    std::fs::set_permissions(app.join("shim"), std::fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(texts(&follow(&mut reader, 1)), ["closed"]);
}
