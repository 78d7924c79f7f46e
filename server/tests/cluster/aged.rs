//! Records go by their age, on every node, in real processes: what is too old is trimmed, and the room of full segments is
//! given back on the disk.

use std::time::Duration;

use anyhow::Result;
use inkstone_client::{Bound, Consistency, IfExists, Retention};

use crate::retention::{SEGMENT, append_mib, has_the_newest, segment_bytes, small_segments, until};
use crate::scene::Stage;

const LOG: &str = "aged";
/// Short enough to wait for.
const AGE: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_older_than_max_age_goes_on_every_node_and_the_rest_stays() -> Result<()> {
    let stage = Stage::open_with(small_segments()).await;
    let client = stage.cluster.client()?;
    let for_a_day = Retention {
        max_age: Some(Duration::from_secs(86_400)),
        ..Retention::default()
    };
    client
        .create_log_with(LOG, IfExists::Fail, for_a_day)
        .await?;
    let mut next = append_mib(&client, LOG, 0, 40).await?;
    // Young enough for as long as anybody waits here.
    assert_eq!(client.log_info(LOG).await?.first_offset, 0);
    let full = segment_bytes(&stage.cluster.data_dir(0));
    client.alter_log(LOG, Bound::Set(AGE), Bound::Keep).await?;
    // All of it is old, soon: a segment at a time, and what is in no full one when the last append is old as well.
    until("all of it is trimmed", async || {
        let info = client.log_info(LOG).await;
        info.is_ok_and(|info| info.first_offset == next)
    })
    .await;
    let first = next;
    for node in 0..stage.cluster.len() {
        let dir = stage.cluster.data_dir(node);
        until("the room is given back", async || {
            segment_bytes(&dir) + SEGMENT <= full
        })
        .await;
        let tail = stage.cluster.client_of(node)?;
        let tail = tail.tail(LOG, Consistency::Linearizable).await?;
        assert_eq!(
            (tail.first_offset, tail.next_offset),
            (first, next),
            "{node}"
        );
    }
    // What is young stays, whatever its neighbours' age.
    client
        .alter_log(LOG, Bound::Set(Duration::from_secs(86_400)), Bound::Keep)
        .await?;
    next = append_mib(&client, LOG, next, 20).await?;
    assert_eq!(client.log_info(LOG).await?.first_offset, first);
    has_the_newest(&stage.cluster, LOG, next).await
}
