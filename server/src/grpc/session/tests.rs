//! Order, bounds and the end of a session, with appends that the test completes by hand.

use std::sync::Mutex;

use futures::channel::oneshot;
use futures::{FutureExt, stream};
use inkstone_proto::v1::{Effect, Reason};
use tokio::task::yield_now;
use tokio_stream::wrappers::ReceiverStream;

use super::*;

/// Longer than any test runs.
const LONG: Duration = Duration::from_secs(3_600);

type Completion = oneshot::Sender<Result<u32, Status>>;
type Recorded = (u32, Option<Completion>);

/// What begins, in order, with the handle that completes it.
#[derive(Clone, Default)]
struct Begun {
    all: Arc<Mutex<Vec<Recorded>>>,
}

impl Begun {
    fn begin(&self, request: u32) -> Outcome<u32> {
        let (complete, outcome) = oneshot::channel();
        self.all
            .lock()
            .expect("no panic")
            .push((request, Some(complete)));
        outcome
            .map(|outcome| outcome.unwrap_or_else(|_| Err(Status::cancelled(""))))
            .boxed()
    }

    fn requests(&self) -> Vec<u32> {
        self.all
            .lock()
            .expect("no panic")
            .iter()
            .map(|(request, _)| *request)
            .collect()
    }

    fn complete(&self, request: u32, result: Result<u32, Status>) {
        let mut all = self.all.lock().expect("no panic");
        let begun = all
            .iter_mut()
            .find(|(begun, _)| *begun == request)
            .expect("it has begun");
        begun
            .1
            .take()
            .expect("once")
            .send(result)
            .expect("it is waited for");
    }
}

struct Session {
    begun: Begun,
    answers: Receiver<Result<u32, Status>>,
}

fn session(
    requests: impl Stream<Item = Result<u32, Status>> + Send + 'static,
    size: usize,
    alone: fn(u32) -> bool,
) -> Session {
    session_waiting(requests, size, alone, LONG)
}

fn session_waiting(
    requests: impl Stream<Item = Result<u32, Status>> + Send + 'static,
    size: usize,
    alone: fn(u32) -> bool,
    alone_wait: Duration,
) -> Session {
    let begun = Begun::default();
    let (tx, answers) = mpsc::channel(SESSION_APPENDS_MAX);
    let recorder = begun.clone();
    let begin = move |request| {
        let recorder = recorder.clone();
        async move {
            if alone(request) {
                Step::Alone(async move { recorder.begin(request).await }.boxed())
            } else {
                Step::Underway(recorder.begin(request))
            }
        }
    };
    tokio::spawn(run(
        requests,
        move |_| size,
        begin,
        std::future::pending(),
        tx,
        alone_wait,
    ));
    Session { begun, answers }
}

/// Lets everything run that can.
async fn settle() {
    for _ in 0..200 {
        yield_now().await;
    }
}

fn numbers(count: u32) -> impl Stream<Item = Result<u32, Status>> {
    stream::iter((0..count).map(Ok))
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_requests_not_of_completion() {
    let mut session = session(numbers(3), 1, |_| false);
    settle().await;
    assert_eq!(session.begun.requests(), [0, 1, 2]);
    session.begun.complete(2, Ok(2));
    session.begun.complete(1, Ok(1));
    settle().await;
    assert!(
        session.answers.try_recv().is_err(),
        "the first is not answered yet"
    );
    session.begun.complete(0, Ok(0));
    for expected in 0..3 {
        assert_eq!(
            session
                .answers
                .recv()
                .await
                .expect("an answer")
                .expect("success"),
            expected
        );
    }
    assert!(
        session.answers.recv().await.is_none(),
        "the session ends with its requests"
    );
}

#[tokio::test]
async fn no_more_requests_than_the_bound_are_under_way() {
    let session = session(numbers(100), 1, |_| false);
    settle().await;
    assert_eq!(session.begun.requests().len(), SESSION_APPENDS_MAX);
    session.begun.complete(0, Ok(0));
    settle().await;
    assert_eq!(session.begun.requests().len(), SESSION_APPENDS_MAX + 1);
}

#[tokio::test]
async fn no_more_bytes_than_the_bound_are_under_way() {
    let session = session(numbers(100), SESSION_SIZE_MAX / 4, |_| false);
    settle().await;
    assert_eq!(session.begun.requests().len(), 4);
}

#[tokio::test]
async fn the_first_failure_is_the_last_answer_and_nothing_begins_after_it() {
    let mut session = session(numbers(100), 1, |_| false);
    settle().await;
    session.begun.complete(1, Err(Status::aborted("refused")));
    session.begun.complete(2, Ok(2));
    session.begun.complete(0, Ok(0));
    assert!(session.answers.recv().await.expect("an answer").is_ok());
    assert!(session.answers.recv().await.expect("an answer").is_err());
    assert!(session.answers.recv().await.is_none());
    settle().await;
    // 0 was answered before the failure, which may have made room for one more.
    assert!(session.begun.requests().len() <= SESSION_APPENDS_MAX + 1);
}

#[tokio::test]
async fn what_runs_alone_begins_when_all_before_it_are_answered_and_holds_back_the_next() {
    let mut session = session(numbers(4), 1, |request| request == 2);
    settle().await;
    assert_eq!(session.begun.requests(), [0, 1]);
    session.begun.complete(0, Ok(0));
    session.begun.complete(1, Ok(1));
    settle().await;
    assert_eq!(session.begun.requests(), [0, 1, 2]);
    session.begun.complete(2, Ok(2));
    settle().await;
    assert_eq!(session.begun.requests(), [0, 1, 2, 3]);
    session.begun.complete(3, Ok(3));
    for expected in 0..4 {
        assert_eq!(
            session
                .answers
                .recv()
                .await
                .expect("an answer")
                .expect("success"),
            expected
        );
    }
}

#[tokio::test]
async fn what_runs_alone_is_refused_when_the_answers_before_it_are_not_there_in_time() {
    let (requests_tx, requests) = mpsc::channel(2);
    let requests = ReceiverStream::new(requests);
    let mut session = session_waiting(requests, 1, |request| request == 1, Duration::ZERO);
    for request in 0..2 {
        requests_tx.send(Ok(request)).await.expect("read");
    }
    // The refusal is the last that is taken.
    requests_tx.closed().await;
    session.begun.complete(0, Ok(0));
    assert!(session.answers.recv().await.expect("an answer").is_ok());
    let refused = session.answers.recv().await.expect("an answer");
    let refused = error::detail_of(&refused.expect_err("it had to wait")).expect("detail");
    assert_eq!(refused.reason(), Reason::Timeout);
    assert_eq!(refused.effect(), Effect::None, "it was not begun");
    assert!(session.answers.recv().await.is_none());
    assert_eq!(session.begun.requests(), [0]);
}

#[tokio::test]
async fn what_runs_alone_does_not_begin_after_a_failure_before_it() {
    let mut session = session(numbers(3), 1, |request| request == 2);
    settle().await;
    session.begun.complete(0, Ok(0));
    session.begun.complete(1, Err(Status::unknown("lost")));
    settle().await;
    assert_eq!(session.begun.requests(), [0, 1]);
    assert!(session.answers.recv().await.expect("an answer").is_ok());
    assert!(session.answers.recv().await.expect("an answer").is_err());
    assert!(session.answers.recv().await.is_none());
}

#[tokio::test]
async fn a_request_that_could_not_be_read_is_answered_in_its_place() {
    let requests = stream::iter([Ok(0), Err(Status::out_of_range("too large")), Ok(2)]);
    let mut session = session(requests, 1, |_| false);
    settle().await;
    assert_eq!(session.begun.requests(), [0]);
    session.begun.complete(0, Ok(0));
    assert!(session.answers.recv().await.expect("an answer").is_ok());
    let refused = session
        .answers
        .recv()
        .await
        .expect("an answer")
        .expect_err("too large");
    assert_eq!(refused.code(), tonic::Code::OutOfRange);
    assert!(session.answers.recv().await.is_none());
}

#[tokio::test]
async fn a_client_that_goes_ends_the_session() {
    let (requests_tx, requests) = mpsc::channel(1);
    let session = session(ReceiverStream::new(requests), 1, |_| false);
    requests_tx.send(Ok(0)).await.expect("read");
    settle().await;
    assert_eq!(session.begun.requests(), [0]);
    drop(session.answers);
    requests_tx.closed().await;
}

#[tokio::test]
async fn a_node_that_stops_answers_what_has_begun_and_then_says_so() {
    let (answers_tx, mut answers) = mpsc::channel(SESSION_APPENDS_MAX);
    let (stop, stopped) = oneshot::channel::<()>();
    let begun = Begun::default();
    let recorder = begun.clone();
    let requests = numbers(1).chain(stream::pending());
    let begin = move |request| {
        let outcome = recorder.begin(request);
        async move { Step::Underway(outcome) }
    };
    let stopped = stopped.map(|_| Status::unavailable("stopping"));
    tokio::spawn(run(requests, |_| 1, begin, stopped, answers_tx, LONG));
    settle().await;
    stop.send(()).expect("it runs");
    settle().await;
    begun.complete(0, Ok(0));
    assert!(answers.recv().await.expect("an answer").is_ok());
    assert!(answers.recv().await.expect("an answer").is_err());
    assert!(answers.recv().await.is_none());
}
