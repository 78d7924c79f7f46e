//! Rounds: one piece of work shared by all who ask for it at the same time.
//!
//! Promises: an answer comes of a round that began after the question was asked, so it holds for the question; one round
//! is under way at a time, however many ask. Must not know: what a round does.

use std::future::Future;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Questions that a round answers together. Cheap to clone.
#[derive(Debug)]
pub(crate) struct Rounds<T> {
    state: Arc<Mutex<State<T>>>,
}

#[derive(Debug)]
struct State<T> {
    under_way: bool,
    /// For the next round.
    asking: Vec<oneshot::Sender<T>>,
}

impl<T> Clone for Rounds<T> {
    fn clone(&self) -> Self {
        Self {
            state: Arc::clone(&self.state),
        }
    }
}

/// The turn of the task that runs rounds.
struct Turn<T> {
    rounds: Rounds<T>,
    ended: bool,
}

impl<T> Turn<T> {
    /// Who asks for the next round; nobody: the turn has ended.
    fn next(&mut self) -> Option<Vec<oneshot::Sender<T>>> {
        let mut state = self.rounds.state.lock();
        let asking = std::mem::take(&mut state.asking);
        self.ended = asking.is_empty();
        state.under_way = !self.ended;
        (!self.ended).then_some(asking)
    }
}

impl<T> Drop for Turn<T> {
    fn drop(&mut self) {
        if !self.ended {
            // A round has panicked, or the runtime ends: those who ask are told by their closed channels.
            let mut state = self.rounds.state.lock();
            state.under_way = false;
            state.asking.clear();
        }
    }
}

impl<T: Clone + Send + 'static> Rounds<T> {
    /// None under way.
    pub(crate) fn new() -> Self {
        let state = State {
            under_way: false,
            asking: Vec::new(),
        };
        Self {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// What the next round gives. `None`: it was cut off, the node is stopping.
    pub(crate) async fn join<F>(&self, round: impl Fn() -> F + Send + 'static) -> Option<T>
    where
        F: Future<Output = T> + Send + 'static,
    {
        let (ask, answer) = oneshot::channel();
        let begins = {
            let mut state = self.state.lock();
            state.asking.push(ask);
            !std::mem::replace(&mut state.under_way, true)
        };
        if begins {
            // A task: a caller that goes does not take the others' round with it.
            tokio::spawn(self.clone().run(round));
        }
        answer.await.ok()
    }

    async fn run<F: Future<Output = T>>(self, round: impl Fn() -> F) {
        let mut turn = Turn {
            rounds: self,
            ended: false,
        };
        while let Some(asking) = turn.next() {
            let outcome = round().await;
            for ask in asking {
                // Who does not wait any more need not be told.
                drop(ask.send(outcome.clone()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures::future::join_all;
    use tokio::sync::Semaphore;
    use tokio::task::yield_now;

    use super::*;

    /// Rounds that are counted, and end when the gate lets them.
    struct Scene {
        rounds: Rounds<usize>,
        begun: Arc<AtomicUsize>,
        gate: Arc<Semaphore>,
    }

    impl Scene {
        fn new() -> Self {
            Self {
                rounds: Rounds::new(),
                begun: Arc::default(),
                gate: Arc::new(Semaphore::new(0)),
            }
        }

        fn ask(&self) -> tokio::task::JoinHandle<Option<usize>> {
            let (begun, gate) = (Arc::clone(&self.begun), Arc::clone(&self.gate));
            let rounds = self.rounds.clone();
            tokio::spawn(async move {
                rounds
                    .join(move || {
                        let (begun, gate) = (Arc::clone(&begun), Arc::clone(&gate));
                        async move {
                            let number = begun.fetch_add(1, Ordering::SeqCst) + 1;
                            gate.acquire().await.expect("open").forget();
                            number
                        }
                    })
                    .await
            })
        }

        async fn settle() {
            for _ in 0..10 {
                yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn a_question_during_a_round_is_answered_by_the_next_one_together_with_others() {
        let scene = Scene::new();
        let first = scene.ask();
        Scene::settle().await;
        assert_eq!(scene.begun.load(Ordering::SeqCst), 1);
        let later: Vec<_> = (0..50).map(|_| scene.ask()).collect();
        Scene::settle().await;
        scene.gate.add_permits(2);
        assert_eq!(first.await.expect("no panic"), Some(1));
        for answer in join_all(later).await {
            assert_eq!(answer.expect("no panic"), Some(2));
        }
        assert_eq!(scene.begun.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn after_a_pause_a_new_round_begins() {
        let scene = Scene::new();
        scene.gate.add_permits(2);
        assert_eq!(scene.ask().await.expect("no panic"), Some(1));
        assert_eq!(scene.ask().await.expect("no panic"), Some(2));
    }

    #[tokio::test]
    async fn a_caller_that_goes_does_not_take_the_round_with_it() {
        let scene = Scene::new();
        let gone = scene.ask();
        Scene::settle().await;
        let waits = scene.ask();
        Scene::settle().await;
        gone.abort();
        scene.gate.add_permits(2);
        assert_eq!(waits.await.expect("no panic"), Some(2));
    }

    #[tokio::test]
    async fn a_round_that_panics_leaves_nobody_waiting() {
        let rounds = Rounds::<usize>::new();
        let cut_off = rounds.join(|| async { panic!("a defect") }).await;
        assert_eq!(cut_off, None);
        assert_eq!(rounds.join(|| async { 7 }).await, Some(7));
    }
}
