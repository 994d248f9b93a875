//! A request's body on a shared connection ends when nobody waits for the answer any more.
//!
//! hyper gives the rest of a body that cannot be sent at once to a task of its own. While that waits for room at the
//! backend it asks for no more of the body, and would not notice that the client has gone: the stream would stay open for
//! as long as the backend likes. So that task is dropped, which resets the stream.

use std::{
    cell::{Cell, RefCell},
    future::{Future, poll_fn},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::upload::{Broken, Upload};

/// Somebody waits for an answer.
#[derive(Default)]
pub struct Interest {
    lost: Cell<bool>,
    task: RefCell<Option<Waker>>,
}

impl Interest {
    /// Nobody does any more.
    pub fn lose(&self) {
        self.lost.set(true);
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    fn is_lost(&self, cx: &Context<'_>) -> bool {
        let mut task = self.task.borrow_mut();
        match &*task {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => *task = Some(cx.waker().clone()),
        }
        self.lost.get()
    }
}

/// Runs hyper's tasks for a connection on the worker's own thread, that of a body for as long as there is interest.
#[derive(Clone, Default)]
pub struct Executor {
    /// Of the body that hyper has just begun with; if it needs a task, it is the next.
    begun: Rc<RefCell<Option<Rc<Interest>>>>,
}

impl Executor {
    /// `upload` as the connection takes it; with the interest in what it asks for, unless it is empty.
    pub fn carry(&self, upload: Upload, interest: Option<Rc<Interest>>) -> Carried {
        Carried { upload, begins: interest.map(|interest| (self.clone(), interest)) }
    }
}

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for Executor {
    fn execute(&self, future: F) {
        // In a box: hyper's type has room for a whole connection, and to spawn it moves it several times.
        let mut future = Box::pin(future);
        match self.begun.take() {
            None => tokio::task::spawn_local(future),
            Some(interest) => tokio::task::spawn_local(poll_fn(move |cx| match interest.is_lost(cx) {
                true => Poll::Ready(()),
                false => future.as_mut().poll(cx),
            })),
        };
    }
}

/// A body that says to its connection's executor when hyper begins with it.
pub struct Carried {
    upload: Upload,
    begins: Option<(Executor, Rc<Interest>)>,
}

impl Carried {
    pub fn into_upload(self) -> Upload {
        self.upload
    }
}

impl Body for Carried {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some((executor, interest)) = self.begins.take() {
            *executor.begun.borrow_mut() = Some(interest);
        }
        Pin::new(&mut self.upload).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.upload.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.upload.size_hint()
    }
}
