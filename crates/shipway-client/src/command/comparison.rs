//! Screens of two sides: what would change, what is not alike.

use crate::terminal::{Cell, Terminal, Tone, text};
use serde_json::Value;

/// The address of a comparison of two sides.
pub fn path(route: &str, base: &str, head: &str, pipeline: Option<&str>) -> String {
    let pipeline = pipeline.map(|name| format!("&pipeline={}", encoded(name))).unwrap_or_default();
    format!("{route}?base={}&head={}{pipeline}", encoded(base), encoded(head))
}

/// A value of a query.
pub fn encoded(value: &str) -> String {
    let byte = |b: u8| match b {
        b if b.is_ascii_alphanumeric() || b"-_.".contains(&b) => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    };
    value.bytes().map(byte).collect()
}

/// `production (shop v12)`, `shop v12`, `shop 3f9c0de`.
pub fn side(side: &Value) -> String {
    let (name, stage) = (text(side, &["name"]), text(side, &["stage"]));
    let at = match side["version"].as_u64() {
        Some(version) => format!(" v{version}"),
        None => format!(" {}", text(side, &["commit"]).chars().take(7).collect::<String>()),
    };
    if stage.is_empty() { format!("{name}{at}") } else { format!("{stage} ({name}{at})") }
}

/// The items of a list; none when it is none.
pub fn items(list: &Value) -> Vec<&Value> {
    list.as_array().map(|list| list.iter().collect()).unwrap_or_default()
}

/// The strings of a list.
pub fn names(list: &Value) -> Vec<String> {
    items(list).into_iter().filter_map(Value::as_str).map(String::from).collect()
}

/// A count.
pub fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or(0)
}

/// A screen that is being written: labels on the left, what there is to say on the right.
pub struct Lines {
    terminal: Terminal,
    out: String,
    rows: Vec<Vec<Cell>>,
    is_empty: bool,
}

/// The width of the labels: the longest is `pull requests`.
const LABEL: usize = 13;

impl Lines {
    /// An empty screen.
    pub fn new(terminal: Terminal) -> Self {
        Self { terminal, out: String::new(), rows: Vec::new(), is_empty: true }
    }

    /// The first line.
    pub fn title(&mut self, title: &str) {
        self.out += &self.terminal.columns(&[vec![Cell::from(title)]]);
        self.out.push('\n');
    }

    /// A label and what it says.
    pub fn row(&mut self, label: &str, told: &str, tone: Tone) {
        self.is_empty = false;
        self.put(label, told, tone);
    }

    /// The same for what is no difference.
    pub fn quiet(&mut self, label: &str, told: &str) {
        self.put(label, told, Tone::Quiet);
    }

    fn put(&mut self, label: &str, told: &str, tone: Tone) {
        self.rows.push(vec![Cell::new(format!("{label:LABEL$}"), Tone::Quiet), Cell::new(told, tone)]);
    }

    /// Several things in one line; nothing for none.
    pub fn words(&mut self, label: &str, words: Vec<String>) {
        if !words.is_empty() {
            self.row(label, &words.join(", "), Tone::Plain);
        }
    }

    /// Several things, a line each; nothing for none.
    pub fn each(&mut self, label: &str, things: Vec<String>) {
        for (i, thing) in things.iter().enumerate() {
            self.row(if i == 0 { label } else { "" }, thing, Tone::Plain);
        }
    }

    /// What a list of changes says: `worker: python a.py -> python b.py`.
    pub fn changes(&mut self, label: &str, changes: &Value) {
        let or_none = |change: &Value, key: &str| match text(change, &[key]) {
            none if none.is_empty() => "none".to_string(),
            some => some,
        };
        let told = |change: &&Value| {
            format!("{}: {} -> {}", text(change, &["name"]), or_none(change, "base"), or_none(change, "head"))
        };
        self.each(label, items(changes).iter().map(told).collect());
    }

    /// Rows of their own, indented.
    pub fn table(&mut self, rows: Vec<Vec<Cell>>) {
        self.flush();
        for line in self.terminal.columns(&rows).lines() {
            self.out += &format!("{:LABEL$}  {line}\n", "");
        }
    }

    fn flush(&mut self) {
        self.out += &self.terminal.columns(&std::mem::take(&mut self.rows));
    }

    /// The screen; `nothing` when no difference was told.
    pub fn end(mut self, nothing: &str) -> String {
        if self.is_empty {
            self.rows = vec![vec![Cell::from(nothing)]];
        }
        self.flush();
        self.out
    }
}

/// The lines of config vars that differ, by name.
pub fn config(lines: &mut Lines, config: &Value) {
    let labelled = [("added", "config new"), ("removed", "config gone"), ("changed", "config differ")];
    for (key, label) in labelled {
        lines.words(label, names(&config[key]));
    }
}
