//! How calls end before their time: a cancellation reaches the backend, a backend's death the client, and a deadline both.

use std::time::Duration;

use gapi::dataplane::outcome::Reason;
use h2::Reason as Code;
use tokio::{net::TcpListener, sync::mpsc};

use crate::{
    call::*,
    harness::wait_until,
    stage::{Routes, Served},
};

/// A backend that answers nothing, or only a head, reads nothing, and tells how each call ends.
fn waiting() -> (std::net::SocketAddr, mpsc::UnboundedReceiver<String>) {
    let (seen, ends) = mpsc::unbounded_channel();
    let address = backend(move |request, mut respond, _| {
        let seen = seen.clone();
        async move {
            let code = match request.uri().path() {
                "/pkg.Svc/Head" => {
                    let mut down = respond.send_response(ok(), false).expect("open");
                    down.send_data("first".into(), false).expect("open");
                    let _ = seen.send("begun".into());
                    reset(&mut down).await
                }
                _ => {
                    let _ = seen.send("begun".into());
                    std::future::poll_fn(|cx| respond.poll_reset(cx)).await.expect("open until then")
                }
            };
            drop(request);
            let _ = seen.send(format!("{code:?}"));
        }
    });
    (address, ends)
}

#[test]
fn a_client_cancels() {
    let (endpoint, mut ends) = waiting();
    let served = Routes::to(endpoint).start();
    run(async {
        let mut sender = connect(served.address).await;
        for (path, finished) in
            [("/pkg.Svc/None", false), ("/pkg.Svc/None", true), ("/pkg.Svc/Head", false), ("/pkg.Svc/Head", true)]
        {
            let mut call = open(&mut sender, path, &[]).await;
            call.up.send_data("message".into(), finished).expect("open");
            assert_eq!(ends.recv().await.as_deref(), Some("begun"));
            if path.ends_with("Head") {
                let mut down = call.answer().await.expect("a head").into_body();
                assert_eq!(next(&mut down).await, "first");
            }
            call.up.send_reset(Code::CANCEL);
            assert_eq!(ends.recv().await.as_deref(), Some("CANCEL"), "{path} {finished}");
        }
    });
    wait_until("all are counted", || served.ended(Reason::ClientGone) + served.ended(Reason::BadBody) == 4);
}

#[test]
fn a_client_cancels_what_the_backend_has_no_room_for() {
    let (endpoint, mut ends) = waiting();
    let served = Routes::to(endpoint).start();
    run(async {
        let mut sender = connect(served.address).await;
        for path in ["/pkg.Svc/None", "/pkg.Svc/Head"] {
            let mut call = open(&mut sender, path, &[]).await;
            assert_eq!(ends.recv().await.as_deref(), Some("begun"));
            if path.ends_with("Head") {
                call.answer().await.expect("a head");
            }
            assert!(fill(&mut call.up, 4 << 20).await < 4 << 20);
            call.up.send_reset(Code::CANCEL);
            assert_eq!(ends.recv().await.as_deref(), Some("CANCEL"), "{path}");
        }
    });
    wait_until("all are counted", || served.ended(Reason::ClientGone) + served.ended(Reason::BadBody) == 2);
}

#[test]
fn what_is_left_of_a_request_does_not_outlive_its_answer_for_long() {
    let (seen, mut ends) = mpsc::unbounded_channel();
    let endpoint = backend(move |request, mut respond, _| {
        let seen = seen.clone();
        async move {
            let mut down = respond.send_response(ok(), false).expect("open");
            down.send_trailers(fields(&[("grpc-status", "0")])).expect("open");
            let code = reset(&mut down).await;
            drop(request);
            let _ = seen.send(code);
        }
    });
    let served = Routes::to(endpoint).settings(|settings| settings.stall_timeout = Duration::from_secs(2)).start();
    run(async {
        let mut call = open(&mut connect(served.address).await, "/pkg.Svc/Put", &[]).await;
        let answer = call.answer().await.expect("an answer");
        assert_eq!(answer.headers()["content-type"], "application/grpc");
        fill(&mut call.up, 4 << 20).await;
        assert_eq!(ends.recv().await, Some(Code::CANCEL));
    });
}

/// As one that waits for news is.
#[test]
fn a_call_may_be_silent_for_longer_than_another_request() {
    let slow = backend(|request, mut respond, _| async move {
        tokio::time::sleep(Duration::from_secs(3)).await;
        let mut down = respond.send_response(ok(), false).expect("open");
        tokio::time::sleep(Duration::from_secs(3)).await;
        down.send_trailers(fields(&[("grpc-status", "0")])).expect("open");
        drop(request);
    });
    let served = Routes::to(slow).settings(|settings| settings.stall_timeout = Duration::from_secs(1)).start();
    run(async {
        let mut call = open(&mut connect(served.address).await, "/pkg.Svc/Watch", &[]).await;
        let _ = call.up.send_data("message".into(), true);
        let answer = call.whole().await.expect("an answer");
        assert_eq!(answer.trailers.expect("trailers")["grpc-status"], "0");
    });
}

#[test]
fn a_client_goes_away() {
    let (endpoint, mut ends) = waiting();
    let served = Routes::to(endpoint).start();
    run(async {
        let stream = tokio::net::TcpStream::connect(served.address).await.expect("it listens");
        let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        let connection = tokio::task::spawn_local(async move { drop(connection.await) });
        let mut sender = sender.ready().await.expect("open");
        let mut call = open(&mut sender, "/pkg.Svc/Head", &[]).await;
        call.say("message");
        call.answer().await.expect("a head");
        assert_eq!(ends.recv().await.as_deref(), Some("begun"));
        connection.abort();
        assert_eq!(ends.recv().await.as_deref(), Some("CANCEL"));
    });
}

#[test]
fn the_deadline_passes() {
    let (endpoint, mut ends) = waiting();
    let served = Routes::to(endpoint).start();
    run(async {
        let mut sender = connect(served.address).await;
        let mut call = open(&mut sender, "/pkg.Svc/None", &[("grpc-timeout", "200m")]).await;
        call.say("message");
        let answer = call.whole().await.expect("an answer");
        assert!(answer.ended_with_head);
        assert_eq!(answer.code(), "4");
        assert_eq!(ends.recv().await.as_deref(), Some("begun"));
        assert_eq!(ends.recv().await.as_deref(), Some("CANCEL"));

        let mut call = open(&mut sender, "/pkg.Svc/Head", &[("grpc-timeout", "1500m")]).await;
        call.say("message");
        let mut down = call.answer().await.expect("a head").into_body();
        assert_eq!(next(&mut down).await, "first");
        let end = down.data().await.expect("an end").expect_err("a reset");
        assert!(end.is_reset() && end.reason() == Some(Code::CANCEL), "{end}");
        assert_eq!(ends.recv().await.as_deref(), Some("begun"));
        assert_eq!(ends.recv().await.as_deref(), Some("CANCEL"));
    });
    wait_until("both are counted", || served.ended(Reason::DeadlinePassed) == 2);
}

/// How a call ends for its client after its first message.
fn ending(served: &Served) -> h2::Error {
    run(async {
        let mut call = open(&mut connect(served.address).await, "/pkg.Svc/Talk", &[]).await;
        call.say("message");
        let mut down = call.answer().await.expect("a head").into_body();
        assert_eq!(next(&mut down).await, "first");
        down.data().await.expect("no clean end").expect_err("no more data")
    })
}

#[test]
fn a_backend_resets() {
    for (code, told) in [
        (Code::INTERNAL_ERROR, Code::INTERNAL_ERROR),
        (Code::NO_ERROR, Code::INTERNAL_ERROR),
        (Code::REFUSED_STREAM, Code::INTERNAL_ERROR),
        (Code::CANCEL, Code::CANCEL),
        (Code::ENHANCE_YOUR_CALM, Code::ENHANCE_YOUR_CALM),
    ] {
        let endpoint = backend(move |_, mut respond, _| async move {
            let mut down = respond.send_response(ok(), false).expect("open");
            down.send_data("first".into(), false).expect("open");
            tokio::time::sleep(QUIET).await;
            down.send_reset(code);
        });
        let served = Routes::to(endpoint).start();
        let end = ending(&served);
        assert!(end.is_reset() && end.reason() == Some(told), "{code:?}: {end}");
        wait_until("it is counted", || served.ended(Reason::AnswerCut) == 1);
    }
}

#[test]
fn a_backends_connection_dies() {
    for abrupt in [false, true] {
        let (listener, endpoint) = listen();
        std::thread::spawn(move || {
            run(async move {
                let listener = TcpListener::from_std(listener).expect("a listener");
                let (stream, _) = listener.accept().await.expect("accepts");
                let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
                let (request, mut respond) = connection.accept().await.expect("a call").expect("a call");
                let mut down = respond.send_response(ok(), false).expect("open");
                down.send_data("first".into(), false).expect("open");
                // What was said before goes out first.
                let _ = tokio::time::timeout(QUIET * 2, std::future::poll_fn(|cx| connection.poll_closed(cx))).await;
                if !abrupt {
                    connection.abrupt_shutdown(Code::INTERNAL_ERROR);
                }
                let _ = tokio::time::timeout(QUIET * 2, std::future::poll_fn(|cx| connection.poll_closed(cx))).await;
                drop((request, connection));
            });
        });
        let served = Routes::to(endpoint).start();
        let end = ending(&served);
        assert!(end.is_reset(), "{end}");
        wait_until("it is counted", || served.ended(Reason::AnswerCut) == 1);
    }
}

/// GOAWAY without an error lets what is under way end.
#[test]
fn a_backend_leaves() {
    let (listener, endpoint) = listen();
    std::thread::spawn(move || {
        run(async move {
            let listener = TcpListener::from_std(listener).expect("a listener");
            for number in ["0", "1"] {
                let (stream, _) = listener.accept().await.expect("accepts");
                let mut connection = h2::server::handshake(stream).await.expect("HTTP/2");
                let (request, mut respond) = connection.accept().await.expect("a call").expect("a call");
                let mut down = respond.send_response(ok(), false).expect("open");
                down.send_data(number.into(), false).expect("open");
                connection.graceful_shutdown();
                tokio::task::spawn_local(async move { while connection.accept().await.is_some() {} });
                tokio::task::spawn_local(async move {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    down.send_trailers(fields(&[("grpc-status", "0")])).expect("open");
                    drop(request);
                });
            }
            tokio::time::sleep(Duration::from_secs(20)).await;
        });
    });
    let served = Routes::to(endpoint).start();
    run(async {
        let mut sender = connect(served.address).await;
        let mut calls = Vec::new();
        for number in ["0", "1"] {
            let mut call = open(&mut sender, "/pkg.Svc/Talk", &[]).await;
            let mut down = call.answer().await.expect("a head").into_body();
            assert_eq!(next(&mut down).await, number);
            // The gateway has seen that the backend leaves, and sends it no more.
            tokio::time::sleep(QUIET * 2).await;
            calls.push((call, down));
        }
        for (_call, mut down) in calls {
            assert!(down.data().await.is_none());
            assert_eq!(down.trailers().await.expect("no reset").expect("trailers")["grpc-status"], "0");
        }
    });
}
