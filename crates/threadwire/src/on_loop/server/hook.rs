//! The request hook of a server: the program's closure that answers each request.

use std::fmt;
use std::sync::Arc;

use crate::{Reply, Request};

/// Without a closure every request is upgraded.
#[derive(Clone, Default)]
pub(crate) struct Hook(Option<Arc<HookFn>>);

type HookFn = dyn Fn(&Request) -> Reply + Send + Sync;

impl Hook {
    pub(crate) fn new<R: Into<Reply>>(hook: impl Fn(&Request) -> R + Send + Sync + 'static) -> Hook {
        Hook(Some(Arc::new(move |request| hook(request).into())))
    }

    /// What becomes of a request, as the program says. A closure that panics answers with 500.
    pub(crate) fn ask(&self, request: &Request) -> Reply {
        let Some(hook) = &self.0 else { return Reply::upgrade() };
        threadwire_guard::contain("accepting a request", || hook(request))
            .unwrap_or_else(|| Reply::status(500))
    }
}

impl fmt::Debug for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "a closure" } else { "none" })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use threadwire_core::server::opening_handshake::{OpeningHandshake, Step};

    use super::*;

    #[test]
    fn the_hook_answers_and_a_panic_of_it_is_500() {
        let mut opening = OpeningHandshake::new(Arc::default(), None, Instant::now());
        opening.begin();
        let Step::Ask(request, _) = opening.advance(b"GET /feed HTTP/1.1\r\nHost: a\r\n\r\n") else {
            panic!("it is a request");
        };
        let answer = |hook: Hook| format!("{:?}", hook.ask(&request));
        assert!(answer(Hook::default()).starts_with("Upgrade"));
        assert!(answer(Hook::new(|_: &Request| Reply::status(404))).contains("404"));
        assert!(answer(Hook::new(|_: &Request| -> Reply { panic!("on purpose") })).contains("500"));
    }
}
