//! All kinds of calls stream, with bounded buffers, over shared connections.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::channel,
    },
};

use crate::{call::*, stage::Routes};

#[test]
fn both_sides_talk_in_turn() {
    let served = Routes::to(echo()).start();
    run(async {
        let mut call = open(&mut connect(served.address).await, "/pkg.Svc/Talk", &[]).await;
        // The head comes before anybody has said anything.
        let mut down = call.answer().await.expect("a head").into_body();
        for _ in 0..50 {
            for word in ["ping", "another"] {
                call.say(word);
                assert_eq!(next(&mut down).await, word);
            }
        }
        call.finish();
        assert!(down.data().await.is_none());
        assert_eq!(down.trailers().await.expect("no reset").expect("trailers")["x-own"], "kept");
    });
}

#[test]
fn a_server_streams() {
    let (go, wait) = tokio::sync::mpsc::unbounded_channel::<()>();
    let wait = Arc::new(tokio::sync::Mutex::new(wait));
    let endpoint = backend(move |_, mut respond, _| {
        let wait = wait.clone();
        async move {
            let mut down = respond.send_response(ok(), false).expect("open");
            for word in ["one", "two", "three"] {
                down.send_data(word.into(), false).expect("open");
                wait.lock().await.recv().await.expect("the client has seen it");
            }
            down.send_trailers(fields(&[("grpc-status", "0")])).expect("open");
        }
    });
    let served = Routes::to(endpoint).start();
    run(async {
        let mut call = open(&mut connect(served.address).await, "/pkg.Svc/List", &[]).await;
        call.up.send_data("message".into(), true).expect("open");
        let mut down = call.answer().await.expect("a head").into_body();
        for word in ["one", "two", "three"] {
            assert_eq!(next(&mut down).await, word);
            go.send(()).expect("it waits");
        }
        assert!(down.data().await.is_none());
        assert_eq!(down.trailers().await.expect("no reset").expect("trailers")["grpc-status"], "0");
    });
}

#[test]
fn a_client_streams() {
    let (seen, mut words) = tokio::sync::mpsc::unbounded_channel();
    let endpoint = backend(move |request, mut respond, _| {
        let seen = seen.clone();
        async move {
            let mut body = request.into_body();
            while !body.is_end_stream() {
                let Some(Ok(data)) = body.data().await else { break };
                body.flow_control().release_capacity(data.len()).expect("open");
                let _ = seen.send(String::from_utf8(data.to_vec()).expect("text"));
            }
            let mut down = respond.send_response(ok(), false).expect("open");
            down.send_data("sum".into(), false).expect("open");
            down.send_trailers(fields(&[("grpc-status", "0")])).expect("open");
        }
    });
    let served = Routes::to(endpoint).start();
    run(async {
        let mut call = open(&mut connect(served.address).await, "/pkg.Svc/Put", &[]).await;
        for word in ["one", "two", "three"] {
            call.say(word);
            // It has arrived before the next is sent.
            assert_eq!(words.recv().await.as_deref(), Some(word));
        }
        call.finish();
        let answer = call.whole().await.expect("an answer");
        assert_eq!((answer.body.as_str(), answer.code()), ("sum", &"0".parse().unwrap()));
    });
}

const LARGE: usize = 16 << 20;

#[test]
fn whoever_does_not_read_stops_the_other() {
    let (go, wait) = tokio::sync::mpsc::unbounded_channel::<()>();
    let wait = Arc::new(tokio::sync::Mutex::new(wait));
    let filled = Arc::new(AtomicUsize::new(0));
    let count = filled.clone();
    let endpoint = backend(move |request, mut respond, _| {
        let (wait, count) = (wait.clone(), count.clone());
        async move {
            let mut down = respond.send_response(ok(), false).expect("open");
            if request.uri().path().ends_with("Down") {
                let sent = fill(&mut down, LARGE).await;
                count.store(sent, Ordering::SeqCst);
                let mut rest = LARGE - sent;
                while rest > 0 {
                    down.reserve_capacity(rest);
                    let room = std::future::poll_fn(|cx| down.poll_capacity(cx)).await.expect("open").expect("open");
                    down.send_data(vec![b'x'; room].into(), false).expect("open");
                    rest -= room;
                }
                down.send_trailers(fields(&[("grpc-status", "0")])).expect("open");
                return;
            }
            wait.lock().await.recv().await.expect("the client has no more room");
            let mut body = request.into_body();
            let mut got = 0;
            while let Some(Ok(data)) = body.data().await {
                body.flow_control().release_capacity(data.len()).expect("open");
                got += data.len();
            }
            down.send_data(got.to_string().into(), false).expect("open");
            down.send_trailers(fields(&[("grpc-status", "0")])).expect("open");
        }
    });
    let served = Routes::to(endpoint).start();
    run(async {
        let mut sender = connect(served.address).await;
        let mut call = open(&mut sender, "/pkg.Svc/Up", &[]).await;
        let sent = fill(&mut call.up, LARGE).await;
        assert!((1..1 << 20).contains(&sent), "{sent} bytes went to a backend that reads none");
        // Others are not held up.
        let mut other = open(&mut sender, "/pkg.Svc/Up", &[]).await;
        other.answer().await.expect("a head");
        drop(other);
        go.send(()).expect("it waits");
        let mut rest = LARGE - sent;
        while rest > 0 {
            call.up.reserve_capacity(rest);
            let room = std::future::poll_fn(|cx| call.up.poll_capacity(cx)).await.expect("open").expect("open");
            call.up.send_data(vec![b'x'; room].into(), false).expect("open");
            rest -= room;
        }
        call.finish();
        assert_eq!(call.whole().await.expect("an answer").body, LARGE.to_string());

        let mut call = open(&mut sender, "/pkg.Svc/Down", &[]).await;
        call.finish();
        let mut down = call.answer().await.expect("a head").into_body();
        while filled.load(Ordering::SeqCst) == 0 {
            tokio::time::sleep(QUIET / 10).await;
        }
        let sent = filled.load(Ordering::SeqCst);
        assert!((1..2 << 20).contains(&sent), "{sent} bytes went to a client that reads none");
        let mut got = 0;
        while let Some(data) = down.data().await {
            let data = data.expect("no reset");
            down.flow_control().release_capacity(data.len()).expect("open");
            got += data.len();
        }
        assert_eq!(got, LARGE);
        assert_eq!(down.trailers().await.expect("no reset").expect("trailers")["grpc-status"], "0");
    });
}

#[test]
fn many_at_once_over_one_connection() {
    let served = Routes::to(echo()).start();
    run(async {
        let mut sender = connect(served.address).await;
        let mut calls = Vec::new();
        for _ in 0..100 {
            let mut call = open(&mut sender, "/pkg.Svc/Talk", &[]).await;
            let down = call.answer().await.expect("a head").into_body();
            calls.push((call, down));
        }
        for word in ["one", "two", "three"] {
            calls.iter_mut().for_each(|(call, _)| call.say(word));
            for (_, down) in calls.iter_mut().rev() {
                assert_eq!(next(down).await, word);
            }
        }
        for (mut call, mut down) in calls {
            call.finish();
            assert!(down.data().await.is_none());
            assert_eq!(down.trailers().await.expect("no reset").expect("trailers")["grpc-status"], "0");
        }
    });
}

#[test]
fn calls_share_the_backends_connection() {
    let (seen, numbers) = channel();
    let endpoint = backend(move |_, mut respond, number| {
        let _ = seen.send(number);
        async move {
            let mut down = respond.send_response(ok(), false).expect("open");
            down.send_trailers(fields(&[("grpc-status", "0")])).expect("open");
        }
    });
    let served = Routes::to(endpoint).start();
    run(async {
        let mut sender = connect(served.address).await;
        for _ in 0..150 {
            assert_eq!(unary(&mut sender, "/pkg.Svc/Get", &[]).await.expect("an answer").code(), "0");
        }
    });
    let numbers: Vec<usize> = numbers.try_iter().collect();
    assert_eq!((numbers.len(), numbers.iter().collect::<BTreeSet<_>>().len()), (150, 1));
}
