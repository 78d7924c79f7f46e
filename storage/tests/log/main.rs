//! The log engine through its public interface, on a real disk: one binary, because linking is what takes the time.

mod agreement;
mod check;
mod chunks;
mod corruption;
mod driven;
mod engine;
mod full;
mod hooked;
mod hostile;
mod latch;
mod lost;
mod making_good;
mod model;
mod recovery;
mod repair;
mod rot;
mod scrub;
mod spare;
mod superseded;
mod support;
#[path = "../tell/mod.rs"]
mod tell;
mod turns;
