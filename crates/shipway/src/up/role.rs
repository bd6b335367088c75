//! One role under `up`'s eyes.

use crate::problem::Problem;
use crate::process::{Launch, Process, last_lines};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a role may take until it answers.
const READY: Duration = Duration::from_secs(60);
/// How often it is asked.
const ASK: Duration = Duration::from_millis(5);
/// The pause before a role that died is started again; doubled each time it dies soon after.
const PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A role that ran for this long is well.
const STEADY: Duration = Duration::from_secs(20);

/// A role: how it is started, and the process that plays it.
pub struct Role {
    name: &'static str,
    launch: Launch,
    process: Process,
    /// Bytes of its log from before this `up`.
    log_before: u64,
}

impl Role {
    /// Takes the process that runs already, or starts one.
    pub fn begin(name: &'static str, launch: Launch, running: Option<Process>) -> Result<Self, Problem> {
        let log_length = || std::fs::metadata(&launch.log).map_or(0, |meta| meta.len());
        let before = log_length();
        let process = match running {
            Some(process) => process,
            None => launch.start()?,
        };
        // A log that was put aside begins anew.
        let log_before = before.min(log_length());
        Ok(Self { name, launch, process, log_before })
    }

    /// Waits until `probe`, given the process id, has an answer. Errors: the role ended instead, with the end of its log.
    pub async fn ready<T>(&mut self, probe: impl AsyncFn(u32) -> Option<T>) -> Result<T, Problem> {
        let pid = self.process.pid();
        let ask = async {
            loop {
                if let Some(answer) = probe(pid).await {
                    return answer;
                }
                sleep(ASK).await;
            }
        };
        let ended = tokio::select! {
            answer = ask => return Ok(answer),
            how = self.process.ended() => format!("the {} ended before it was ready ({how})", self.name),
            () = sleep(READY) => format!("the {} does not answer", self.name),
        };
        let problem = why(&ended, &last_lines(&self.launch.log, self.log_before, 10));
        Err(problem.hint(format!("its log: {}", self.launch.log.display())))
    }

    /// Starts it again whenever it ends, for ever.
    pub async fn keep(&mut self) {
        let mut pause = PAUSE;
        loop {
            let since = Instant::now();
            let how = self.process.ended().await;
            pause = if since.elapsed() > STEADY { PAUSE } else { (pause * 2).min(LONGEST_PAUSE) };
            tracing::warn!(role = self.name, how, log = %self.launch.log.display(), "a role ended; starting it again");
            self.process = loop {
                sleep(pause).await;
                match self.launch.start() {
                    Ok(process) => break process,
                    Err(problem) => {
                        tracing::error!(role = self.name, why = problem.what(), "it cannot be started; trying again");
                        pause = (pause * 2).min(LONGEST_PAUSE);
                    }
                }
            };
        }
    }
}

/// What a role said at its end: its own last error with what to do about it; where there is none, its last lines.
fn why(ended: &str, lines: &[String]) -> Problem {
    let Some(at) = lines.iter().rposition(|line| line.starts_with("error: ")) else {
        let last = &lines[lines.len().saturating_sub(5)..];
        return last.iter().fold(Problem::new(ended), |problem, line| problem.hint(line));
    };
    let what = lines[at].trim_start_matches("error: ");
    let hints = lines[at + 1..].iter().filter_map(|line| line.strip_prefix("hint: "));
    hints.fold(Problem::new(format!("{ended}: {what}")), |problem, hint| problem.hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_of_a_role_stays_one_and_its_log_is_shown_only_without() {
        let why = |lines: &[&str]| why("it ended", &lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>());
        let said = why(&["INFO it starts", "error: no disk", "hint: buy one"]);
        assert_eq!((said.what(), said.hints()), ("it ended: no disk", ["buy one".to_owned()].as_slice()));
        let said = why(&["1", "2", "3", "4", "5", "a panic"]);
        assert_eq!((said.what(), said.hints().len(), &*said.hints()[4]), ("it ended", 5, "a panic"));
        assert_eq!(why(&[]).hints().len(), 0);
    }
}
