//! Holds a request's body back until the backend says that it wants it (`Expect: 100-continue`, RFC 9110, 10.1.1).

use std::{
    sync::{Arc, Mutex},
    task::{Poll, Waker},
    time::Duration,
};

/// A backend that says nothing for so long does not know the expectation: it gets the body, and the client its 100.
pub const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Eq, PartialEq)]
enum State {
    Closed,
    Open,
    /// The final answer came and went, the body is not wanted any more.
    Refused,
}

/// Opened from hyper's callback for informational answers, which may be called on any thread: hence the lock, which only
/// requests with an expectation pay for.
pub struct Gate(Mutex<(State, Option<Waker>)>);

impl Gate {
    pub fn new() -> Arc<Gate> {
        Arc::new(Gate(Mutex::new((State::Closed, None))))
    }

    /// The backend said 100, or was patient for too long.
    pub fn open(&self) {
        self.turn(State::Open);
    }

    /// The exchange is over.
    pub fn refuse(&self) {
        self.turn(State::Refused);
    }

    fn turn(&self, to: State) {
        let mut gate = self.0.lock().expect("never poisoned: nothing panics under the lock");
        if gate.0 == State::Closed {
            gate.0 = to;
            if let Some(waker) = gate.1.take() {
                waker.wake();
            }
        }
    }

    /// True when the body may flow, false when it is not wanted.
    pub fn poll(&self, waker: &Waker) -> Poll<bool> {
        let mut gate = self.0.lock().expect("never poisoned: nothing panics under the lock");
        match gate.0 {
            State::Open => Poll::Ready(true),
            State::Refused => Poll::Ready(false),
            State::Closed => {
                gate.1 = Some(waker.clone());
                Poll::Pending
            }
        }
    }
}
