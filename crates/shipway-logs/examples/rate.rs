//! Prints lines per second of a writer (line by line, in batches) and of a reader: `cargo run --release --example rate`.

use shipway_logs::{Filter, Limits, Reader, Record, Source, Writer};
use std::time::Instant;

const LINES: u64 = 2_000_000;

fn main() -> std::io::Result<()> {
    let app = std::env::temp_dir().join(format!("shipway-log-rate-{}", std::process::id()));
    std::fs::create_dir(&app)?;
    let message = [b'x'; 100];
    let report = |what: &str, begin: Instant| {
        println!("{what}: {:.2} M lines/s", LINES as f64 / begin.elapsed().as_secs_f64() / 1e6);
    };
    let mut writer = Writer::open(&app, "single", Limits::default())?;
    let begin = Instant::now();
    for i in 0..LINES {
        writer.append(i, Source::App, "web.1", &message)?;
    }
    report("a write per line", begin);
    let mut writer = Writer::open(&app, "batch", Limits::default())?;
    let begin = Instant::now();
    for i in (0..LINES).step_by(100) {
        let record = |j| Record { time_us: i + j, sequence: 0, source: Source::App, dyno: "web.1", message: &message };
        let records: [Record<'_>; 100] = std::array::from_fn(|j| record(j as u64));
        writer.append_batch(&records)?;
    }
    report("batches of 100", begin);
    let mut reader = Reader::oldest(&app, Filter::default())?;
    let mut lines = Vec::new();
    let begin = Instant::now();
    let mut read = 0;
    while read < 2 * LINES {
        reader.poll(u64::MAX / 2, 10_000, &mut lines)?;
        read += lines.len() as u64;
        lines.clear();
    }
    println!("reader, two chains: {:.2} M lines/s", read as f64 / begin.elapsed().as_secs_f64() / 1e6);
    let begin = Instant::now();
    let (last, _) = Reader::last(&app, Filter::default(), 1500)?;
    println!("last {}: {:.1} ms", last.len(), begin.elapsed().as_secs_f64() * 1e3);
    std::fs::remove_dir_all(&app)
}
