//! A deadline that moves with every request, on a timer that stays where it is.

use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::time::{Instant, Sleep, sleep_until};

/// Wakes whoever waits at a deadline that is nearly always put off before it comes.
///
/// To set a timer takes the runtime's lock and a place in its wheel, and to drop it again as much. So it is set once, and
/// only when it goes off is it looked at whether the deadline has moved meanwhile.
pub struct Alarm {
    timer: Pin<Box<Sleep>>,
}

impl Alarm {
    /// Goes off at `deadline` for the first time, unless another is asked for earlier.
    pub fn new(deadline: Instant) -> Self {
        Self { timer: Box::pin(sleep_until(deadline)) }
    }

    /// Ready once `deadline` has come; wakes the task by then.
    pub fn poll(&mut self, deadline: Instant, cx: &mut Context<'_>) -> Poll<()> {
        if deadline < self.timer.deadline() {
            self.timer.as_mut().reset(deadline);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(deadline);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::time::Duration;

    #[tokio::test]
    async fn it_goes_off_at_the_deadline_of_the_moment() {
        let start = Instant::now();
        let ms = |ms| start + Duration::from_millis(ms);
        let mut alarm = Alarm::new(ms(20));
        // Put off, brought forward, in the past.
        for deadline in [ms(60), ms(65), ms(30), ms(90)] {
            poll_fn(|cx| alarm.poll(deadline, cx)).await;
            assert!(Instant::now() >= deadline);
        }
        let now = alarm.timer.deadline();
        assert!(poll_fn(|cx| Poll::Ready(alarm.poll(now + Duration::from_secs(60), cx))).await.is_pending());
        let soon = Instant::now() + Duration::from_millis(10);
        tokio::time::timeout(Duration::from_secs(30), poll_fn(|cx| alarm.poll(soon, cx))).await.unwrap();
    }
}
