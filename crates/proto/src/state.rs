//! The state machine of an open connection and its close handshake, as a table (RFC 6455, sections 5.5.1 and 7).
//!
//! Whatever happens to a connection is an [`Input`]; what is done about it depends on the [`State`] alone, and is
//! looked up in [`step`]. The rest of the crate only carries the actions out.
//!
//! | | data | ping | pong | close | violation | send | send close | TCP ended | deadline |
//! |---|---|---|---|---|---|---|---|---|---|
//! | **Open** | deliver | answer | deliver | answer, *Closed* | fail, *Failed* | write | write, *Closing* | lost, *Ended* | - |
//! | **Closing** | drop | drop | drop | complete, *Closed* | fail silently, *Failed* | refuse | drop | lost, *Ended* | give up, *Ended* |
//! | **Closed** | drop | drop | drop | drop | drop | refuse | drop | end, *Ended* | end, *Ended* |
//! | **Failed** | drop | drop | drop | drop | drop | refuse | drop | end, *Ended* | end, *Ended* |
//! | **Ended** | drop | drop | drop | drop | drop | refuse | drop | drop | drop |
//!
//! ```
//! use threadwire_proto::state::{Action, Input, State, step};
//!
//! let mut state = State::Open;
//! let life = [Input::Data, Input::SendClose, Input::Data, Input::Close, Input::TcpEnded];
//! let actions = life.map(|input| {
//!     let (action, next) = step(state, input);
//!     state = next;
//!     action
//! });
//! assert_eq!(actions, [Action::Deliver, Action::Write, Action::Drop, Action::Complete, Action::End]);
//! assert_eq!(state, State::Ended);
//! ```

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Messages go both ways.
    Open,
    /// We sent a close frame, and wait for the peer's.
    Closing,
    /// Both close frames were exchanged: the connection is closed cleanly, and only TCP is left to end.
    Closed,
    /// The peer broke a rule: nothing it sends counts any more, and TCP is left to end.
    Failed,
    /// TCP is over, or given up.
    Ended,
}

/// An event in the life of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// A data frame or message was received.
    Data,
    /// A ping was received.
    Ping,
    /// A pong was received.
    Pong,
    /// A close frame was received.
    Close,
    /// The peer broke a rule.
    Violation,
    /// The user sends a message, a fragment, a ping or a pong.
    Send,
    /// The user closes.
    SendClose,
    /// TCP ended: the peer closed it, or it broke.
    TcpEnded,
    /// The closing handshake took too long.
    Deadline,
}

/// The action that an event leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Hand it to the user.
    Deliver,
    /// Answer the ping with a pong (if that is left to us), and hand it to the user.
    AnswerPing,
    /// Answer the close frame with its own code, and report it.
    AnswerClose,
    /// The peer has answered our close frame: report it.
    Complete,
    /// Send a close frame with the violation, and report it.
    Fail,
    /// Report the violation. The close frame was sent before.
    FailSilently,
    /// Write it.
    Write,
    /// Do nothing.
    Drop,
    /// Tell the user that the connection is not open.
    Refuse,
    /// Report that the connection ended without the peer's close frame.
    Lost,
    /// Report that the peer did not answer our close frame in time.
    GiveUp,
    /// Report the end, as it was prepared.
    End,
}

/// The table: what to do about an input, and the state that follows.
///
/// ```
/// use threadwire_proto::state::{Action, Input, State, step};
/// assert_eq!(step(State::Open, Input::SendClose), (Action::Write, State::Closing));
/// assert_eq!(step(State::Closing, Input::Close), (Action::Complete, State::Closed));
/// ```
#[inline]
pub const fn step(state: State, input: Input) -> (Action, State) {
    use {Action as A, Input as I, State as S};
    match (state, input) {
        (S::Open, I::Data) => (A::Deliver, S::Open),
        (S::Open, I::Ping) => (A::AnswerPing, S::Open),
        (S::Open, I::Pong) => (A::Deliver, S::Open),
        (S::Open, I::Close) => (A::AnswerClose, S::Closed),
        (S::Open, I::Violation) => (A::Fail, S::Failed),
        (S::Open, I::Send) => (A::Write, S::Open),
        (S::Open, I::SendClose) => (A::Write, S::Closing),
        (S::Open, I::TcpEnded) => (A::Lost, S::Ended),
        // The deadline runs only once a close frame was sent.
        (S::Open, I::Deadline) => (A::Drop, S::Open),

        (S::Closing, I::Data | I::Ping | I::Pong | I::SendClose) => (A::Drop, S::Closing),
        (S::Closing, I::Close) => (A::Complete, S::Closed),
        (S::Closing, I::Violation) => (A::FailSilently, S::Failed),
        (S::Closing, I::Send) => (A::Refuse, S::Closing),
        (S::Closing, I::TcpEnded) => (A::Lost, S::Ended),
        (S::Closing, I::Deadline) => (A::GiveUp, S::Ended),

        (S::Closed | S::Failed, I::TcpEnded | I::Deadline) => (A::End, S::Ended),
        (S::Closed | S::Failed | S::Ended, I::Send) => (A::Refuse, state),
        (S::Closed | S::Failed | S::Ended, _) => (A::Drop, state),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATES: [State; 5] = [State::Open, State::Closing, State::Closed, State::Failed, State::Ended];
    const INPUTS: [Input; 9] = [
        Input::Data,
        Input::Ping,
        Input::Pong,
        Input::Close,
        Input::Violation,
        Input::Send,
        Input::SendClose,
        Input::TcpEnded,
        Input::Deadline,
    ];

    /// Reads the table out of the documentation above, so that the two can't drift apart.
    fn documented() -> Vec<(State, Input, Action, State)> {
        let mut rows = Vec::new();
        for line in include_str!("state.rs").lines() {
            let Some(row) = line.strip_prefix("//! | **") else { continue };
            let mut cells = row.trim_end_matches(" |").split(" | ");
            let name = cells.next().unwrap().trim_end_matches("**");
            let state = *STATES.iter().find(|state| format!("{state:?}") == name).unwrap();
            for (cell, input) in cells.zip(INPUTS) {
                let (words, next) = match cell.split_once(", *") {
                    Some((words, next)) => {
                        let next = next.trim_end_matches('*');
                        (words, *STATES.iter().find(|state| format!("{state:?}") == next).unwrap())
                    }
                    None => (cell, state),
                };
                let action = match (words, input) {
                    ("deliver", _) => Action::Deliver,
                    ("answer", Input::Ping) => Action::AnswerPing,
                    ("answer", Input::Close) => Action::AnswerClose,
                    ("complete", _) => Action::Complete,
                    ("fail", _) => Action::Fail,
                    ("fail silently", _) => Action::FailSilently,
                    ("write", _) => Action::Write,
                    ("drop" | "-", _) => Action::Drop,
                    ("refuse", _) => Action::Refuse,
                    ("lost", _) => Action::Lost,
                    ("give up", _) => Action::GiveUp,
                    ("end", _) => Action::End,
                    other => panic!("unknown words in the table: {other:?}"),
                };
                rows.push((state, input, action, next));
            }
        }
        rows
    }

    #[test]
    fn does_in_every_state_and_for_every_input_what_the_documented_table_says() {
        let rows = documented();
        assert_eq!(rows.len(), STATES.len() * INPUTS.len());
        for (state, input, action, next) in rows {
            assert_eq!(step(state, input), (action, next), "{input:?} in {state:?}");
        }
    }

    type Step = (State, Input, Action);

    /// Walks every sequence of inputs of length five, from an open connection.
    fn walk(mut visit: impl FnMut(&[Step], State)) {
        fn go(path: &mut Vec<Step>, state: State, visit: &mut impl FnMut(&[Step], State)) {
            visit(path, state);
            if path.len() == 5 {
                return;
            }
            for input in INPUTS {
                let (action, next) = step(state, input);
                path.push((state, input, action));
                go(path, next, visit);
                path.pop();
            }
        }
        go(&mut Vec::new(), State::Open, &mut visit);
    }

    #[test]
    fn at_most_one_close_frame_is_sent_and_nothing_after_it() {
        walk(|path, _| {
            let sends_close = |&(_, input, action): &Step| {
                matches!(action, Action::AnswerClose | Action::Fail)
                    || (action == Action::Write && input == Input::SendClose)
            };
            if let Some(first) = path.iter().position(sends_close) {
                for step in &path[first + 1..] {
                    assert!(!sends_close(step), "a second close frame: {path:?}");
                    assert!(!matches!(step.2, Action::Write | Action::AnswerPing), "{path:?}");
                }
            }
        });
    }

    #[test]
    fn the_end_is_reported_once_and_nothing_is_delivered_after_it() {
        walk(|path, state| {
            let ends = |action| matches!(action, Action::Lost | Action::GiveUp | Action::End);
            let count = path.iter().filter(|step| ends(step.2)).count();
            assert_eq!(count, usize::from(state == State::Ended), "{path:?}");
            if let Some(end) = path.iter().position(|step| ends(step.2)) {
                let after = &path[end + 1..];
                assert!(after.iter().all(|step| matches!(step.2, Action::Drop | Action::Refuse)), "{path:?}");
            }
        });
    }

    #[test]
    fn tcp_ending_ends_every_state() {
        for state in STATES {
            assert_eq!(step(state, Input::TcpEnded).1, State::Ended);
        }
    }
}
