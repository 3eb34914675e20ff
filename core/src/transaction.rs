//! One non-INVITE client transaction over UDP (RFC 3261 §17.1.2, Figure 6): when to send the next
//! copy, when to give up, and which answers to absorb. It holds no bytes and no addresses.

use std::time::{Duration, Instant};

use crate::timers::{TimerE, Timers};

/// The states of RFC 3261 Figure 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Sent, nothing heard.
    Trying,
    /// A provisional answer (1xx) has come; the final one is still waited for.
    Proceeding,
    /// The final answer has come; its retransmissions are absorbed until Timer K.
    Completed,
    /// Over. Nothing happens any more.
    Terminated,
}

/// What an answer was to the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// 1xx before the final answer.
    Provisional,
    /// The first final answer: to be handed to the transaction's user.
    Final,
    /// Anything after that: to be dropped.
    Retransmission,
}

/// What a timer that fired asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fired {
    /// Timer E: send one more copy of the request.
    E,
    /// Timer F: nobody gave a final answer. The transaction has terminated.
    F,
    /// Timer K: no retransmitted answer is expected any more. The transaction has terminated.
    K,
}

/// One non-INVITE client transaction over an unreliable transport.
///
/// [`Transaction::new`] is the moment at which the first copy of the request is sent. From then
/// on: hand every matching answer to [`Transaction::handle_answer`], call
/// [`Transaction::handle_timeout`] at [`Transaction::poll_timeout`] or later, and do what they
/// return.
///
/// Invariant: `poll_timeout` is `None` exactly in state Terminated, and every
/// `handle_timeout` that returns something moves it later or ends the transaction.
#[derive(Clone, Debug)]
pub struct Transaction {
    state: State,
    started: Instant,
    timer_e: TimerE,
    timer_k: Duration,
    /// Deadlines of Timers E, F and K; those that do not run are `None`.
    e: Option<Instant>,
    f: Option<Instant>,
    k: Option<Instant>,
}

impl Transaction {
    /// Starts in state Trying with Timers E and F running (RFC 3261 §17.1.2.2).
    #[must_use]
    pub fn new(now: Instant, timers: &Timers) -> Self {
        let timer_e = TimerE::first(timers);
        Self {
            state: State::Trying,
            started: now,
            timer_e,
            timer_k: timers.timer_k(),
            e: Some(now + timer_e.interval()),
            f: Some(now + timers.timer_f()),
            k: None,
        }
    }

    /// The current state.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// How long ago the transaction began.
    #[must_use]
    pub fn elapsed(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.started)
    }

    /// An answer that matches this transaction; `code` is its status code.
    pub fn handle_answer(&mut self, now: Instant, code: u16) -> Heard {
        match self.state {
            State::Completed | State::Terminated => Heard::Retransmission,
            State::Trying | State::Proceeding if code < 200 => {
                // Timer E keeps its deadline; only the pause after it is T2.
                self.state = State::Proceeding;
                Heard::Provisional
            }
            State::Trying | State::Proceeding => {
                self.state = State::Completed;
                (self.e, self.f, self.k) = (None, None, Some(now + self.timer_k));
                Heard::Final
            }
        }
    }

    /// The transport could not deliver the request (RFC 3261 §17.1.4), or nobody waits for the
    /// answer any more.
    pub fn terminate(&mut self) {
        self.state = State::Terminated;
        (self.e, self.f, self.k) = (None, None, None);
    }

    /// Lets one due timer fire; `None` when none is due. Timer F goes before Timer E, so no copy
    /// is sent at the moment of giving up.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Fired> {
        let due = |deadline: Option<Instant>| deadline.filter(|&at| at <= now);
        if due(self.f).is_some() {
            self.terminate();
            return Some(Fired::F);
        }
        if due(self.k).is_some() {
            self.terminate();
            return Some(Fired::K);
        }
        let fired = due(self.e)?;
        self.timer_e = match self.state {
            State::Proceeding => self.timer_e.slowed(),
            _ => self.timer_e.doubled(),
        };
        // Counted from the deadline, so that late calls do not add up; but a caller that slept
        // over several deadlines sends one copy, not a burst.
        let next = fired + self.timer_e.interval();
        self.e = Some(if next > now { next } else { now + self.timer_e.interval() });
        Some(Fired::E)
    }

    /// When to call [`Transaction::handle_timeout`] next; `None` in state Terminated.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.e, self.f, self.k].into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// Runs to the end; returns what fired, and when, in milliseconds after `start`.
    fn run(transaction: &mut Transaction, start: Instant) -> Vec<(u128, Fired)> {
        let mut fired = Vec::new();
        while let Some(at) = transaction.poll_timeout() {
            let what = transaction.handle_timeout(at).expect("a deadline fires something");
            fired.push(((at - start).as_millis(), what));
        }
        fired
    }

    #[test]
    fn rfc3261_17_1_2_2_eleven_copies_when_nobody_answers() {
        let start = Instant::now();
        let mut transaction = Transaction::new(start, &Timers::default());
        let fired = run(&mut transaction, start);
        let resent: Vec<u128> =
            fired.iter().filter(|(_, what)| *what == Fired::E).map(|(at, _)| *at).collect();
        let expected = [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500];
        assert_eq!(resent, expected, "ten retransmissions follow the first copy at 0");
        assert_eq!(fired.last(), Some(&(32_000, Fired::F)));
        assert_eq!(transaction.state(), State::Terminated);
    }

    /// rsipstack stopped resending after a 100; the RFC goes on, every T2, until Timer F.
    #[test]
    fn rfc3261_17_1_2_2_proceeding_resends_every_t2_until_timer_f() {
        let start = Instant::now();
        let mut transaction = Transaction::new(start, &Timers::default());
        assert_eq!(transaction.handle_timeout(start + ms(500)), Some(Fired::E));
        assert_eq!(transaction.handle_answer(start + ms(600), 100), Heard::Provisional);
        assert_eq!(transaction.state(), State::Proceeding);
        let at: Vec<u128> = run(&mut transaction, start).iter().map(|(at, _)| *at).collect();
        assert_eq!(at, [1500, 5500, 9500, 13_500, 17_500, 21_500, 25_500, 29_500, 32_000]);
    }

    /// rsipstack never timed out after a 183.
    #[test]
    fn rfc3261_17_1_2_2_timer_f_fires_in_proceeding_too() {
        let start = Instant::now();
        let mut transaction = Transaction::new(start, &Timers::default());
        assert_eq!(transaction.handle_answer(start, 183), Heard::Provisional);
        assert_eq!(run(&mut transaction, start).last(), Some(&(32_000, Fired::F)));
    }

    #[test]
    fn rfc3261_17_1_2_2_every_later_provisional_leaves_proceeding_as_it_is() {
        let start = Instant::now();
        let mut transaction = Transaction::new(start, &Timers::default());
        transaction.handle_answer(start, 100);
        let deadline = transaction.poll_timeout();
        assert_eq!(transaction.handle_answer(start + ms(10), 180), Heard::Provisional);
        assert_eq!(transaction.state(), State::Proceeding);
        assert_eq!(transaction.poll_timeout(), deadline);
    }

    #[test]
    fn rfc3261_17_1_2_2_a_final_answer_ends_retransmission_and_starts_timer_k() {
        for provisional in [None, Some(100)] {
            let start = Instant::now();
            let mut transaction = Transaction::new(start, &Timers::default());
            if let Some(code) = provisional {
                transaction.handle_answer(start, code);
            }
            assert_eq!(transaction.handle_answer(start + ms(200), 200), Heard::Final);
            assert_eq!(transaction.state(), State::Completed);
            assert_eq!(run(&mut transaction, start), [(5200, Fired::K)]);
            assert_eq!(transaction.state(), State::Terminated);
        }
    }

    #[test]
    fn rfc3261_17_1_2_2_timer_k_absorbs_retransmitted_answers() {
        let start = Instant::now();
        let mut transaction = Transaction::new(start, &Timers::default());
        transaction.handle_answer(start, 481);
        for code in [481, 200, 100] {
            assert_eq!(transaction.handle_answer(start + ms(10), code), Heard::Retransmission);
        }
        assert_eq!(transaction.poll_timeout(), Some(start + ms(5000)), "Timer K is not restarted");
    }

    #[test]
    fn rfc3261_17_1_4_a_transport_error_terminates() {
        let start = Instant::now();
        let mut transaction = Transaction::new(start, &Timers::default());
        transaction.terminate();
        assert_eq!(transaction.state(), State::Terminated);
        assert_eq!(transaction.poll_timeout(), None);
        assert_eq!(transaction.handle_answer(start, 200), Heard::Retransmission);
        assert_eq!(transaction.handle_timeout(start + ms(99_000)), None);
    }

    #[test]
    fn a_caller_that_slept_over_deadlines_sends_one_copy_and_no_burst() {
        let start = Instant::now();
        let mut transaction = Transaction::new(start, &Timers::default());
        assert_eq!(transaction.handle_timeout(start + ms(9000)), Some(Fired::E));
        assert_eq!(transaction.handle_timeout(start + ms(9000)), None);
        assert_eq!(transaction.poll_timeout(), Some(start + ms(10_000)));
    }

    #[test]
    fn late_calls_do_not_add_up() {
        let start = Instant::now();
        let mut transaction = Transaction::new(start, &Timers::default());
        let mut copies = 1;
        while let Some(at) = transaction.poll_timeout() {
            if transaction.handle_timeout(at + ms(100)) == Some(Fired::E) {
                copies += 1;
            }
        }
        assert_eq!(copies, 11, "100 ms late each time, and still every copy before Timer F");
    }
}
