//! Bodies that are larger, slower or heavier than they may be.

use std::collections::VecDeque;

use inkstone_proto::v1::{Effect, Reason};

use super::*;

/// Gives its pieces, and then nothing, without an end.
struct Pieces(VecDeque<Vec<u8>>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.0.pop_front() {
            Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece.into())))),
            None => Poll::Pending,
        }
    }
}

fn message(size: u8) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 0, size];
    bytes.resize(HEADER_SIZE + usize::from(size), 1);
    bytes
}

fn body(room: &IntakeRoom, shape: Shape, pieces: &[&[u8]]) -> Intake<Pieces> {
    let pieces = pieces.iter().map(|piece| piece.to_vec()).collect();
    Intake::new(Pieces(pieces), room, shape)
}

async fn next(body: &mut Intake<Pieces>) -> Result<Bytes, Status> {
    let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
    frame
        .expect("it has no end")
        .map(|frame| frame.into_data().expect("data"))
}

#[track_caller]
fn is_refused(answer: Result<Bytes, Status>, reason: Reason) {
    let status = answer.expect_err("it was let in");
    let detail = error::detail_of(&status).expect("detail");
    assert_eq!(detail.reason(), reason, "{status}");
    assert_eq!(detail.effect(), Effect::None);
}

#[tokio::test]
async fn an_absurd_length_is_refused_before_its_bytes_come() {
    let room = IntakeRoom::new(1 << 20, 1 << 10);
    let mut absurd = body(&room, Shape::Message, &[&[0, 0xff, 0xff], &[0xff, 0xff, 1]]);
    next(&mut absurd).await.expect("no length yet");
    is_refused(next(&mut absurd).await, Reason::TooLarge);
}

#[tokio::test]
async fn what_is_decoded_is_given_back_and_what_is_incomplete_is_held() {
    let room = IntakeRoom::new(4 * PERMIT_SIZE, 1 << 10);
    let whole = message(200);
    let pieces: [&[u8]; 3] = [&whole, &whole[..100], &whole[100..]];
    let mut session = body(&room, Shape::Stream, &pieces);
    next(&mut session).await.expect("room");
    assert_eq!(room.permits.available_permits(), 3);
    next(&mut session).await.expect("room");
    assert_eq!(room.permits.available_permits(), 3);
    next(&mut session).await.expect("room");
    assert!(futures::poll!(Box::pin(next(&mut session))).is_pending());
    assert_eq!(room.permits.available_permits(), 4);
}

#[tokio::test(start_paused = true)]
async fn who_stands_still_in_the_middle_of_a_message_is_refused_when_others_wait() {
    let room = IntakeRoom::new(PERMIT_SIZE, 1 << 10);
    let whole = message(200);
    let mut stalled = body(&room, Shape::Message, &[&whole[..100]]);
    next(&mut stalled).await.expect("room");
    let mut other = body(&room, Shape::Message, &[&whole]);
    let wait = async {
        is_refused(next(&mut stalled).await, Reason::Busy);
        drop(stalled);
    };
    let (answered, ()) = tokio::join!(next(&mut other), wait);
    assert_eq!(answered.expect("its turn has come").len(), whole.len());
}

#[tokio::test(start_paused = true)]
async fn a_message_that_never_ends_is_refused_and_a_session_that_rests_is_not() {
    let room = IntakeRoom::new(4 * PERMIT_SIZE, 1 << 10);
    let whole = message(200);
    for pieces in [&[][..], &[&whole[..100]]] {
        let mut slow = body(&room, Shape::Message, pieces);
        for _ in pieces {
            next(&mut slow).await.expect("room");
        }
        is_refused(next(&mut slow).await, Reason::Timeout);
    }
    let mut session = body(&room, Shape::Session, &[]);
    let rest = tokio::time::timeout(10 * MESSAGE_TIMEOUT, next(&mut session));
    assert!(rest.await.is_err(), "it may rest for ever");
}

#[tokio::test(start_paused = true)]
async fn without_room_in_time_a_message_is_refused() {
    let room = IntakeRoom::new(PERMIT_SIZE, 1 << 10);
    let whole = message(200);
    let mut first = body(&room, Shape::Message, &[&whole]);
    next(&mut first).await.expect("room");
    let mut second = body(&room, Shape::Message, &[&whole]);
    is_refused(next(&mut second).await, Reason::Busy);
    drop(second);
    assert!(!room.is_wanted(), "nobody waits any more");
}
