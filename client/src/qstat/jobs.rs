//! The job listings of `qstat`: asks for each operand in the detail that the view needs, and prints job by job, so that
//! neither side ever holds a long listing.

use std::io::Write;

use capstan_proto::Refusal;
use capstan_proto::wire::stat_jobs_request::Detail;
use capstan_proto::wire::{JobAttributes, JobRow, ListingHead, StatJobsReply, StatJobsRequest};
use capstan_types::{JobReference, Pbse};
use jiff::tz::TimeZone;

use crate::command::{Failure, refusal};
use crate::dialect::Dialect;
use crate::door;
use crate::output::attributes::{Style, block};
use crate::output::screen::Screen;
use crate::output::wide::Layout;
use crate::output::{assignments, json, pro, pro_formats, pro_tables, rows, wide, xml};

use super::Listing;
use super::options::{Format, View, Wish};

/// Exit status of PBS Pro for a finished job that is asked for without `-x`.
const HISTORY_STATUS: u8 = 35;

/// Lists the jobs.
///
/// # Errors
/// An output that cannot be written.
pub(super) async fn list<W: Write>(
    listing: &mut Listing<'_, W>,
    wish: &Wish,
) -> Result<(), Failure> {
    let mut printer = Printer::new(wish);
    if wish.format == Format::ProJson {
        let server = listing.identity().await?;
        printer.begin_pro(listing.screen.out(), &server);
    }
    let every = [String::new()];
    let operands = if wish.operands.is_empty() {
        &every[..]
    } else {
        &wish.operands
    };
    for operand in operands {
        if let Some((status, early, late)) = malformed(operand) {
            listing.fail_early(status, &early, &late);
            continue;
        }
        let Some(asked) = listing.here(operand).await? else {
            continue;
        };
        if let Err(refusal) = one(listing, &mut printer, asked).await? {
            complain(listing, &refusal, operand).await;
        }
    }
    printer.finish(listing.screen.out());
    Ok(())
}

/// What is neither an id nor a destination: exit status, what is said at once and what in the end.
fn malformed(operand: &str) -> Option<(u8, String, String)> {
    if is_id(operand) {
        let is_wrong = operand.parse::<JobReference>().is_err();
        let early = format!("qstat: illegally formed job identifier: {operand}");
        let late = "qstat: Error (1 - Operation not permitted) ".to_owned();
        return is_wrong.then_some((1, early, late));
    }
    let is_wrong = operand.chars().any(|c| c.is_whitespace() || c.is_control())
        || operand.matches('@').count() > 1
        || operand.ends_with('@');
    let error = Pbse::Ivalreq;
    let early = format!("qstat: illegally formed destination: {operand}");
    let late = format!("qstat: Error ({} - {}) ", error.number(), error.text());
    is_wrong.then_some((error.exit_status(), early, late))
}

/// Whether an operand is meant as a job's id; anything else is a queue.
fn is_id(operand: &str) -> bool {
    operand.starts_with(|c: char| c.is_ascii_digit())
}

fn request(wish: &Wish, operand: String) -> StatJobsRequest {
    let detail = match wish.view {
        View::Wide => Detail::Wide,
        View::Full | View::Cards => Detail::Full,
        View::Rows if wish.with_percentage => Detail::Wide,
        View::Rows | View::Queues { .. } | View::Limits | View::Server { .. } => Detail::Row,
    };
    // What is asked for by its id is shown whatever its state, and in the tables whosever it is.
    let is_id = is_id(&operand);
    let chooses = !operand.is_empty() || !wish.states.is_empty() || !wish.users.is_empty();
    StatJobsRequest {
        detail: detail.into(),
        expand_arrays: wish.expand_arrays || (wish.expand_unless_chosen && (is_id || !chooses)),
        users: match is_id && wish.view != View::Full {
            true => Vec::new(),
            false => wish.users.clone(),
        },
        hide_completed: wish.hide_completed,
        exec_only: wish.exec_only,
        dialect: match wish.dialect {
            Some(Dialect::Torque) => "torque".to_owned(),
            Some(Dialect::Pro) => "pbspro".to_owned(),
            None => String::new(),
        },
        include_finished: wish.include_finished,
        arrays_only: wish.arrays_only,
        operand,
    }
}

/// Asks for one operand and prints what comes.
async fn one<W: Write>(
    listing: &mut Listing<'_, W>,
    printer: &mut Printer<'_>,
    operand: String,
) -> Result<Result<(), Refusal>, Failure> {
    let states = if is_id(&operand) {
        ""
    } else {
        printer.wish.states
    };
    let request = request(printer.wish, operand);
    let mut batches = match listing.server.stat_jobs(request).await {
        Ok(reply) => reply.into_inner(),
        Err(status) => return Ok(Err(refusal(&status))),
    };
    loop {
        match batches.message().await {
            Ok(Some(batch)) => {
                if let Some(head) = &batch.head {
                    printer.head(head);
                } else if printer.needs_head() {
                    // A server of another version names itself only when asked.
                    let (server, comment) = listing.heading().await?;
                    printer.server = server;
                    printer.comment = comment;
                }
                printer.batch(listing.screen, batch, states)?;
            }
            Ok(None) => return Ok(Ok(())),
            Err(status) => return Ok(Err(refusal(&status))),
        }
    }
}

async fn complain<W: Write>(listing: &mut Listing<'_, W>, refusal: &Refusal, operand: &str) {
    if is_id(operand) {
        let id = door::full_id(&mut listing.server, operand).await;
        match refusal.error == Pbse::Unkjobid && !refusal.detail.is_empty() {
            // Known, but history: the way PBS Pro says it.
            true => listing.fail(HISTORY_STATUS, &format!("qstat: {id} {}", refusal.detail)),
            false => listing.refuse(refusal, &id),
        }
    } else if refusal.error == Pbse::Unkque {
        let text = format!("qstat: Unknown queue destination {operand}");
        listing.fail(refusal.error.exit_status(), &text);
    } else {
        listing.refuse(refusal, operand);
    }
}

/// Turns batches into text. The header waits for the first job: nothing to show means no output at all.
struct Printer<'a> {
    wish: &'a Wish,
    style: Style,
    /// As the command line has it, and what the server tells.
    layout: Layout,
    has_header: bool,
    is_pro: bool,
    server: String,
    comment: String,
    json: json::Document,
    pro: Option<pro_formats::Document>,
}

impl<'a> Printer<'a> {
    fn new(wish: &'a Wish) -> Self {
        // Only these show dates; reading the zone costs a file.
        let has_dates = wish.view == View::Cards
            || wish.view == View::Full && !matches!(wish.format, Format::Xml | Format::Json);
        Self {
            wish,
            style: Style {
                on_one_line: wish.on_one_line,
                zone: has_dates.then(TimeZone::system),
            },
            layout: wish.layout,
            has_header: false,
            is_pro: wish.dialect == Some(Dialect::Pro),
            server: String::new(),
            comment: String::new(),
            json: json::Document::default(),
            pro: None,
        }
    }

    fn begin_pro(&mut self, out: &mut Vec<u8>, (server, version): &(String, String)) {
        let zone = self.style.zone.clone().unwrap_or(TimeZone::UTC);
        let begun = pro_formats::Document::begin(out, "Jobs", (server, version), zone);
        self.pro = Some(begun);
    }

    fn head(&mut self, head: &ListingHead) {
        self.server.clone_from(&head.server);
        self.comment.clone_from(&head.comment);
        if self.wish.dialect.is_none() {
            self.is_pro = Dialect::parse(&head.dialect) == Some(Dialect::Pro);
        }
    }

    fn needs_head(&self) -> bool {
        self.wish.view == View::Wide && self.server.is_empty()
    }

    fn batch<W: Write>(
        &mut self,
        screen: &mut Screen<W>,
        batch: StatJobsReply,
        states: &str,
    ) -> Result<(), Failure> {
        let StatJobsReply {
            rows,
            jobs,
            head: _,
        } = batch;
        let is_wanted = |state: &str| states.is_empty() || states.contains(state);
        for row in rows.iter().filter(|row| is_wanted(&row.state)) {
            self.row(screen.out(), row);
            screen.pass_on()?;
        }
        for job in jobs.iter().filter(|job| is_wanted(state(job))) {
            self.job(screen.out(), job);
            screen.pass_on()?;
        }
        Ok(())
    }

    fn row(&mut self, out: &mut Vec<u8>, row: &JobRow) {
        let is_first = !std::mem::replace(&mut self.has_header, true);
        if is_first {
            self.layout = self.layout.for_rows_like(row);
        }
        let layout = self.layout;
        match (self.wish.view == View::Wide, self.is_pro) {
            (true, false) => {
                if is_first {
                    wide::header(out, layout, &self.server, &self.comment);
                }
                wide::row(out, layout, row);
            }
            (true, true) => {
                if is_first {
                    pro_tables::wide_header(out, layout, &self.server, &self.comment);
                }
                pro_tables::wide_row(out, layout, row);
            }
            (false, false) => {
                if is_first {
                    out.extend_from_slice(rows::HEADER.as_bytes());
                }
                rows::row(out, row);
            }
            (false, true) => {
                let with_percentage = self.wish.with_percentage;
                if is_first {
                    pro_tables::header(out, with_percentage);
                }
                pro_tables::row(out, row, with_percentage);
            }
        }
    }

    fn job(&mut self, out: &mut Vec<u8>, job: &JobAttributes) {
        if self.wish.view == View::Cards {
            return self.with_cards(out, job);
        }
        let head = || format!("Job Id: {}", job.id);
        match &self.wish.format {
            Format::Xml => {
                self.xml_header(out);
                xml::open(out, "Job");
                xml::element(out, "Job_Id", &job.id);
                xml::attributes(out, &job.attributes);
                xml::close(out, "Job");
            }
            Format::Json => {
                self.json.element(out, "jobs");
                json::job(out, job);
            }
            Format::ProJson => {
                if let Some(document) = &mut self.pro {
                    document.object(out, &job.id, &pro::job(job));
                }
            }
            Format::Dsv(delimiter) => {
                let zone = self.style.zone.clone().unwrap_or(TimeZone::UTC);
                pro_formats::dsv(out, &head(), &pro::job(job), (delimiter, &zone));
            }
            Format::Text if self.is_pro => block(out, &self.style, &head(), &pro::job(job)),
            Format::Text => block(out, &self.style, &head(), &job.attributes),
        }
    }

    fn with_cards(&mut self, out: &mut Vec<u8>, job: &JobAttributes) {
        if !std::mem::replace(&mut self.has_header, true) {
            out.extend_from_slice(assignments::HEADER.as_bytes());
        }
        let zone = self.style.zone.clone().unwrap_or(TimeZone::UTC);
        assignments::line(out, job, &zone);
    }

    fn xml_header(&mut self, out: &mut Vec<u8>) {
        if !std::mem::replace(&mut self.has_header, true) {
            out.extend_from_slice(xml::DECLARATION.as_bytes());
            xml::open(out, "Data");
        }
    }

    /// The end of a document; XML and JSON have one even when there are no jobs.
    fn finish(mut self, out: &mut Vec<u8>) {
        match &self.wish.format {
            Format::Xml => {
                self.xml_header(out);
                xml::close(out, "Data");
                out.push(b'\n');
            }
            Format::Json => self.json.end(out, "jobs"),
            Format::ProJson => {
                if let Some(document) = self.pro {
                    document.end(out);
                }
            }
            Format::Dsv(_) | Format::Text => {}
        }
    }
}

fn state(job: &JobAttributes) -> &str {
    job.attributes
        .iter()
        .find(|a| a.name == "job_state")
        .map_or("", |a| a.value.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::Call;
    use capstan_proto::wire::Attribute;

    /// Remembers the widest write, and that there were any.
    #[derive(Default)]
    struct Widest {
        bytes: usize,
        all: usize,
    }

    impl Write for &mut Widest {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.bytes = self.bytes.max(bytes.len());
            self.all += bytes.len();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// Goal: twenty thousand jobs need no more memory than a few, in whatever form. The printer gets them in batches
    /// as the server sends them, and what it hands to stdout at once stays below the screen's buffer and one job.
    #[test]
    fn a_listing_of_any_length_is_written_through_one_small_buffer() {
        const HIGHEST: usize = 80 << 10;
        let attributes = (0..30).map(|at| Attribute {
            name: format!("attribute_{at}"),
            resource: String::new(),
            value: "some value of a usual length".to_owned(),
        });
        let job = JobAttributes {
            id: "248.hn1".to_owned(),
            attributes: attributes.collect(),
            reason: String::new(),
        };
        let batch = StatJobsReply {
            jobs: vec![job; 100],
            ..StatJobsReply::default()
        };
        for args in [
            &["-f"][..],
            &["-x"],
            &["--json"],
            &["-f", "-F", "json"],
            &["-f", "-F", "dsv"],
        ] {
            let call = Call {
                program: "qstat",
                args: args.iter().map(|&arg| arg.to_owned()).collect(),
                ..Call::default()
            };
            let wish = Wish::read(&call, None).unwrap();
            let mut stdout = Widest::default();
            let mut screen = Screen::new(&mut stdout);
            let mut printer = Printer::new(&wish);
            printer.begin_pro(screen.out(), &("hn1".into(), "1".into()));
            for _ in 0..200 {
                printer.batch(&mut screen, batch.clone(), "").unwrap();
            }
            printer.finish(screen.out());
            screen.flush().unwrap();
            drop(screen);
            assert!(stdout.all > 20_000_000, "{args:?}: {}", stdout.all);
            assert!(stdout.bytes < HIGHEST, "{args:?}: {}", stdout.bytes);
        }
    }

    #[test]
    fn what_is_neither_an_id_nor_a_destination_is_told() {
        let status = |operand| malformed(operand).map(|(status, ..)| status);
        assert_eq!(status("1x"), Some(1));
        assert_eq!(status("bad queue"), Some(156));
        assert_eq!(status("@"), Some(156));
        assert_eq!(status("a@b@c"), Some(156));
        for fine in [
            "",
            "1",
            "253[].hn1",
            "batch",
            "@hn1",
            "batch@hn1",
            "abc.def",
        ] {
            assert_eq!(status(fine), None, "{fine}");
        }
    }
}
