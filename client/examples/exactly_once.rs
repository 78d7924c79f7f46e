//! Appends a few records under a producer of its own, so that running it again appends nothing twice.
//!
//! `cargo run -p inkstone-client --example exactly_once -- 127.0.0.1:7420`

use std::io::Write;

use inkstone_client::{
    AppendOptions, Client, IfExists, NewRecord, Producer, ProducerChoice, SearchOptions,
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let server = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:7420".to_owned());
    let mut out = std::io::stdout();
    let client = Client::connect(server)?;
    client.create_log("example", IfExists::Keep).await?;

    let mut next_offset = 0;
    for (sequence, body) in (0..).zip(["login alice", "upload report.pdf", "logout alice"]) {
        // The same id and sequence always stand for the same batch. Whoever has no such numbers leaves them to the
        // client: its appends are retried safely, too, but a second run is a second writer.
        let producer = ProducerChoice::Given(Producer {
            id: 4_711,
            epoch: 0,
            sequence,
        });
        let options = AppendOptions {
            producer,
            ..AppendOptions::default()
        };
        let record = NewRecord::new(body).with_attribute("app", "example");
        let receipt = client.append_with("example", vec![record], options).await?;
        let when = if receipt.duplicate { "before" } else { "now" };
        writeln!(
            out,
            "{body}: offset {}, appended {when}",
            receipt.first_offset
        )?;
        next_offset = receipt.next_offset;
    }

    let answer = client
        .search(SearchOptions::new("example", "alice"))
        .await?;
    writeln!(
        out,
        "{} hits; everything below offset {} was searched, our last record is below {next_offset}",
        answer.hits.len(),
        answer.indexed_next_offset
    )?;
    Ok(())
}
