//! Account of a session: what it holds of the memory budget, and what becomes of it where that runs short.

use super::progress::Stall;
use super::{Env, Session};
use crate::config::budget::{Account, Budgets, Pressure, QUANTUM};
use crate::error::{Error, LimitError, LimitKind};

impl Session {
    /// How many KiB it holds: of incomplete messages, of output, and [beside it](Session::hold_beside).
    #[inline]
    pub(super) fn held(&self) -> u32 {
        kib(self.outbox.capacity() + self.protocol.held()).saturating_add(self.beside)
    }

    /// So many bytes wait elsewhere for the connection's program.
    #[inline]
    pub fn hold_beside(&mut self, bytes: usize) {
        self.beside = kib(bytes);
        self.holds = (self.beside | self.told) > 0;
    }

    /// Whether what it holds has changed enough to be told.
    #[inline]
    pub(super) fn has_to_tell(&self) -> bool {
        let held = self.held();
        held.abs_diff(self.told) > (QUANTUM >> 10) as u32 || (held == 0 && self.told > 0)
    }

    /// Tells what it holds, and finds out whether it is too much.
    #[cold]
    pub(super) fn tell_held(&mut self, env: Env<'_>) -> Option<Stall> {
        self.told = self.held();
        self.holds = (self.beside | self.told) > 0;
        if self.told == 0 {
            self.close_account();
            return None;
        }
        let told = (self.told as usize) << 10;
        let open = || Account::new(Budgets::of(env.config.budget.as_ref()));
        let account = self.extras().account.get_or_insert_with(open);
        account.tell(told);
        let pressure = account.pressure();
        self.is_held_back = pressure == Pressure::Tight && self.may_hold_back();
        (pressure == Pressure::Full).then_some(Stall::Memory)
    }

    /// All was given back.
    pub(super) fn close_account(&mut self) {
        (self.told, self.beside, self.is_held_back, self.holds) = (0, 0, false, false);
        if let Some(extras) = &mut self.extras {
            extras.account = None;
        }
    }

    /// Counts that the connection ends for what it holds. The error that says so.
    pub(super) fn overdrawn(&self) -> Error {
        let account = self.extras.as_ref().and_then(|extras| extras.account.as_ref());
        let limit = account.map_or(0, Account::ends);
        LimitError { kind: LimitKind::Memory, limit }.into()
    }
}

#[inline]
fn kib(bytes: usize) -> u32 {
    (bytes >> 10) as u32
}
