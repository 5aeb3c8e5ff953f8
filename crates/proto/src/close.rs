//! The payload of a close frame (RFC 6455, section 5.5.1).

pub use crate::close_code::CloseCode;
use crate::{SendError, Violation};

/// The longest reason that fits a close frame beside its code, in bytes.
pub const MAX_REASON: usize = 123;

/// The code and reason of a close frame. No code means an empty payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// The code, if there is one.
    pub code: Option<CloseCode>,
    /// The reason; empty if there is none. Meant for logs, not for people.
    pub reason: &'a str,
}

impl<'a> CloseFrame<'a> {
    /// Reads the payload of a close frame that the peer sent: nothing, or two bytes of code in network order and a
    /// reason.
    ///
    /// ```
    /// use threadwire_proto::{CloseCode, CloseFrame, Violation};
    /// let close = CloseFrame::parse(b"\x03\xe8bye").unwrap();
    /// assert_eq!((close.code, close.reason), (Some(CloseCode::NORMAL), "bye"));
    /// assert_eq!(CloseFrame::parse(b"\x03"), Err(Violation::CloseCodeCut));
    /// assert_eq!(CloseFrame::parse(b"\x03\xee"), Err(Violation::CloseCodeInvalid(1006)));
    /// ```
    pub fn parse(payload: &'a [u8]) -> Result<CloseFrame<'a>, Violation> {
        match payload {
            [] => Ok(CloseFrame { code: None, reason: "" }),
            [_] => Err(Violation::CloseCodeCut),
            [high, low, reason @ ..] => {
                let code = CloseCode::new(u16::from_be_bytes([*high, *low]));
                if !code.may_be_sent() {
                    return Err(Violation::CloseCodeInvalid(code.get()));
                }
                let reason = std::str::from_utf8(reason).map_err(|_| Violation::CloseReasonNotUtf8)?;
                Ok(CloseFrame { code: Some(code), reason })
            }
        }
    }

    /// Checks that we may send it: a code that may be sent, and a reason only with a code. A reason that does not fit is no error: it
    /// is sent [cut](fit_reason), as a connection that stays open for a long text is worse than a text that is short.
    ///
    /// ```
    /// use threadwire_proto::{CloseCode, CloseFrame, SendError};
    /// let close = |code, reason| CloseFrame { code: Some(CloseCode::new(code)), reason };
    /// assert_eq!(close(1000, "bye").check(), Ok(()));
    /// assert_eq!(close(1006, "").check(), Err(SendError::CloseCodeInvalid(1006)));
    /// assert_eq!(close(1000, &"b".repeat(124)).check(), Ok(()));
    /// ```
    ///
    /// # Errors
    ///
    /// [`SendError::CloseCodeInvalid`] or [`SendError::ReasonWithoutCode`].
    pub fn check(&self) -> Result<(), SendError> {
        match self.code {
            None if self.reason.is_empty() => Ok(()),
            None => Err(SendError::ReasonWithoutCode),
            Some(code) if !code.may_be_sent() => Err(SendError::CloseCodeInvalid(code.get())),
            Some(_) => Ok(()),
        }
    }

    /// The same with as much of its reason as fits.
    pub(crate) fn fitted(self) -> CloseFrame<'a> {
        CloseFrame { reason: fit_reason(self.reason), ..self }
    }

    /// The payload, in a buffer large enough for any, and its length. The frame must have passed
    /// [`check`](CloseFrame::check), and its reason must fit.
    pub(crate) fn payload(&self) -> ([u8; 125], usize) {
        let mut bytes = [0; 125];
        let Some(code) = self.code else { return (bytes, 0) };
        bytes[..2].copy_from_slice(&code.get().to_be_bytes());
        bytes[2..2 + self.reason.len()].copy_from_slice(self.reason.as_bytes());
        (bytes, 2 + self.reason.len())
    }
}

/// As much of a reason as fits a close frame, cut at a character.
///
/// ```
/// use threadwire_proto::close::fit_reason;
/// assert_eq!(fit_reason("short"), "short");
/// assert_eq!(fit_reason(&"é".repeat(100)).len(), 122);
/// ```
pub fn fit_reason(reason: &str) -> &str {
    let mut end = reason.len().min(MAX_REASON);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    &reason[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_exactly_the_codes_that_may_be_sent() {
        for number in 0..=u16::MAX {
            let expected = (1000..=1003).contains(&number)
                || (1007..=1014).contains(&number)
                || (3000..=4999).contains(&number);
            let frame = number.to_be_bytes();
            assert_eq!(CloseFrame::parse(&frame).is_ok(), expected, "received {number}");
            let own = CloseFrame { code: Some(CloseCode::new(number)), reason: "" };
            assert_eq!(own.check().is_ok(), expected, "sent {number}");
        }
    }

    #[test]
    fn refuses_a_reason_that_is_not_utf8() {
        assert_eq!(CloseFrame::parse(b"\x03\xe8\xff"), Err(Violation::CloseReasonNotUtf8));
        assert_eq!(Violation::CloseReasonNotUtf8.code(), CloseCode::INVALID_DATA);
    }

    #[test]
    fn what_it_encodes_it_parses() {
        let reason = "r".repeat(MAX_REASON);
        for frame in [
            CloseFrame { code: None, reason: "" },
            CloseFrame { code: Some(CloseCode::NORMAL), reason: "" },
            CloseFrame { code: Some(CloseCode::new(4999)), reason: &reason },
        ] {
            frame.check().unwrap();
            let (bytes, length) = frame.payload();
            assert_eq!(CloseFrame::parse(&bytes[..length]), Ok(frame));
        }
    }

    #[test]
    fn cuts_a_reason_at_a_character_and_refuses_one_without_a_code() {
        for (reason, fits) in [
            ("r".repeat(MAX_REASON), MAX_REASON),
            ("r".repeat(MAX_REASON + 1), MAX_REASON),
            ("é".repeat(62), 122),
            (format!("{}\u{1f600}", "r".repeat(121)), 121),
            (format!("{}\u{1f600}", "r".repeat(119)), 123),
        ] {
            let frame = CloseFrame { code: Some(CloseCode::NORMAL), reason: &reason };
            assert_eq!(frame.check(), Ok(()));
            assert_eq!(frame.fitted().reason, &reason[..fits]);
        }
        assert_eq!(CloseFrame { code: None, reason: "x" }.check(), Err(SendError::ReasonWithoutCode));
    }
}
