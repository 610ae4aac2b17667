//! The listings of `qstat` that are not about jobs: queues (`-Q`, `-q`) and the server (`-B`).

use std::io::Write;

use capstan_proto::wire::{Attribute, QueueRow, StatQueuesRequest};
use jiff::tz::TimeZone;

use crate::command::{Failure, refusal};
use crate::door;
use crate::output::attributes::{Style, block};
use crate::output::{json, pro_formats, queues};

use super::options::{Format, View, Wish};
use super::{Listing, identity};

/// Lists queues, operand by operand.
///
/// # Errors
/// A server that is gone, an output that cannot be written.
pub(super) async fn queues<W: Write>(
    listing: &mut Listing<'_, W>,
    wish: &Wish,
) -> Result<(), Failure> {
    let every = [String::new()];
    let names = if wish.operands.is_empty() {
        &every[..]
    } else {
        &wish.operands
    };
    let mut document = begin(listing, wish, ("queues", "Queue")).await?;
    let mut has_header = false;
    for name in names {
        let Some(queue) = listing.here(name).await? else {
            continue;
        };
        let reply = listing
            .server
            .stat_queues(StatQueuesRequest { queue })
            .await;
        let found = match reply {
            Ok(reply) => reply.into_inner().queues,
            // The recorded text ends in a blank, where other errors have an id.
            Err(status) => {
                listing.refuse(&refusal(&status), "");
                continue;
            }
        };
        if wish.view == View::Limits && wish.format == Format::Text {
            limits(listing, wish, &found).await?;
            continue;
        }
        let is_table = wish.view == View::Queues { in_full: false } && wish.format == Format::Text;
        if is_table && !found.is_empty() && !std::mem::replace(&mut has_header, true) {
            listing
                .screen
                .out()
                .extend_from_slice(queues::HEADER.as_bytes());
        }
        for queue in &found {
            let out = listing.screen.out();
            match is_table {
                true => queues::row(out, queue),
                false => document.object(out, ("Queue", &queue.name), &queue.attributes),
            }
            listing.screen.pass_on()?;
        }
    }
    document.end(listing.screen.out());
    Ok(())
}

async fn limits<W: Write>(
    listing: &mut Listing<'_, W>,
    wish: &Wish,
    found: &[QueueRow],
) -> Result<(), Failure> {
    if !found.is_empty() {
        let server = listing.server_status().await?.name;
        queues::limits(listing.screen.out(), &server, found, wish.layout.memory);
    }
    Ok(())
}

/// Shows the server. Torque connects to each operand; there is one server here.
///
/// # Errors
/// A server that is gone, an output that cannot be written.
pub(super) async fn servers<W: Write>(
    listing: &mut Listing<'_, W>,
    wish: &Wish,
    in_full: bool,
) -> Result<(), Failure> {
    let status = listing.server_status().await?;
    let every = [status.name.clone()];
    let names = if wish.operands.is_empty() {
        &every[..]
    } else {
        &wish.operands
    };
    let mut document = begin(listing, wish, ("servers", "Server")).await?;
    let mut has_header = false;
    for name in names {
        if !door::is_name_of(name, &status.name) {
            listing.unresolved(name);
            continue;
        }
        let out = listing.screen.out();
        if in_full || wish.format != Format::Text {
            document.object(out, ("Server", &status.name), &status.attributes);
            continue;
        }
        if !std::mem::replace(&mut has_header, true) {
            out.extend_from_slice(queues::SERVER_HEADER.as_bytes());
        }
        queues::server_row(out, &status.name, &status.attributes);
    }
    document.end(listing.screen.out());
    Ok(())
}

/// Objects of one kind in the form that was asked for.
enum Document {
    Text(Style),
    Json(json::Document, &'static str),
    Pro(pro_formats::Document),
    Dsv(String, TimeZone),
}

async fn begin<W: Write>(
    listing: &mut Listing<'_, W>,
    wish: &Wish,
    (ours, pros): (&'static str, &'static str),
) -> Result<Document, Failure> {
    Ok(match &wish.format {
        Format::Text | Format::Xml => Document::Text(Style {
            on_one_line: wish.on_one_line,
            zone: None,
        }),
        Format::Json => Document::Json(json::Document::default(), ours),
        Format::ProJson => {
            let status = listing.server_status().await?;
            let (server, version) = identity(&status);
            let out = listing.screen.out();
            // Times of queues are numbers here as there.
            let begun =
                pro_formats::Document::begin(out, pros, (&server, &version), TimeZone::system());
            Document::Pro(begun)
        }
        Format::Dsv(delimiter) => Document::Dsv(delimiter.clone(), TimeZone::system()),
    })
}

impl Document {
    fn object(&mut self, out: &mut Vec<u8>, (kind, name): (&str, &str), attributes: &[Attribute]) {
        let head = || format!("{kind}: {name}");
        match self {
            Self::Text(style) => block(out, style, &head(), attributes),
            Self::Json(document, list) => {
                document.element(out, list);
                json::named(out, name, attributes);
            }
            Self::Pro(document) => document.object(out, name, attributes),
            Self::Dsv(delimiter, zone) => {
                pro_formats::dsv(out, &head(), attributes, (delimiter, zone));
            }
        }
    }

    fn end(self, out: &mut Vec<u8>) {
        match self {
            Self::Json(mut document, list) => document.end(out, list),
            Self::Pro(document) => document.end(out),
            Self::Text(_) | Self::Dsv(..) => {}
        }
    }
}
