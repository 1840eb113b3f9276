//! Reports are whole, safe and bounded.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use woodchuck_io::{Buffer, Disk as _, Durability, Env as _, File as _, Listener as _, Net as _};
use woodchuck_io::{OpenMode, Stream as _};

use super::*;
use crate::SimEnv;
use crate::scenario::{RunOptions, Scenario};

const HOSTILE: &str = "</script><script>alert('\"&\u{2028}')</script>";

/// Accepts connections, and keeps what they say until it is struck down.
async fn keep(env: SimEnv) {
    let listener = env.net().listen("0.0.0.0:80".parse().expect("an address")).await.expect("free");
    let file = match env.disk().open(Path::new("/kept"), OpenMode::Write).await {
        Ok(file) => file,
        Err(_) => env.disk().open(Path::new("/kept"), OpenMode::CreateNew).await.expect("new"),
    };
    env.note(HOSTILE);
    while let Ok((stream, _)) = listener.accept().await {
        while let (Ok(1..), _) = stream.read(bytes::BytesMut::with_capacity(64)).await {
            let mut buffer = Buffer::zeroed(4096);
            buffer.fill(1);
            file.write_at(buffer, 0, Durability::Durable).await.0.expect("a healthy disk");
        }
    }
}

/// Talks to the keeper for ever.
async fn talk(env: SimEnv, keeper: SocketAddr) {
    loop {
        let operation = env.operation(7, format_args!("say {HOSTILE}"));
        let outcome = match env.net().connect(keeper).await {
            Ok(stream) => match stream.write(vec![Bytes::from_static(b"keep this")]).await {
                Ok(()) => "ok".to_owned(),
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        env.operation_ended(operation, outcome);
        env.sleep(Duration::from_millis(1)).await;
    }
}

/// A run with everything in it that a report tells of.
fn run(violated: bool) -> Run {
    let scenario = Scenario::new("keeper", "Keeps what it hears.", move |stage| {
        let (keeper, talker) = (stage.machine(HOSTILE), stage.machine("talker"));
        stage.service(keeper, 1, keep);
        let address = SocketAddr::new(stage.world().address(keeper), 80);
        stage.bot(talker, "talker", move |env| talk(env, address));
        stage.sometimes("struck");
        let _ = stage.draw("drawn", 3);
        stage.plan(move |director| async move {
            director.sleep(Duration::from_millis(40)).await;
            // Nobody listens for a while.
            director.world().kill(keeper);
            director.sleep(Duration::from_millis(10)).await;
            director.world().power_cut(keeper);
            director.observer().hit("struck");
            director.start(keeper);
            director.sleep(Duration::from_millis(10)).await;
            if violated {
                director.observer().violated_on(HOSTILE, "keeps <all>", format!("no: {HOSTILE}"));
            }
            director.dismiss_bots();
        });
    });
    scenario.run(&RunOptions { chronicle: true, record: true, ..RunOptions::new(3) })
}

fn page(run: &Run) -> String {
    let chronicle = run.chronicle.as_ref().expect("it was asked for");
    let commands = vec![("reproduce".to_owned(), format!("play {HOSTILE}"))];
    Report { commands, ..Report::new(run, chronicle) }.html()
}

/// The data of the script, which is JSON.
fn data(page: &str) -> &str {
    let start = page.find("id=\"data\">").expect("the data") + "id=\"data\">".len();
    let length = page[start..].find("</script>").expect("its end");
    &page[start..start + length]
}

#[test]
fn the_page_refers_to_nothing_outside_itself() {
    let page = page(&run(true));
    for outside in ["http:", "https:", "src=", "href=", "url(", "@import", "import(", "fetch("] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
}

#[test]
fn names_and_notes_are_text_wherever_they_stand() {
    let page = page(&run(true));
    assert!(page.contains("&lt;script&gt;alert("), "it is told");
    assert!(data(&page).contains("\\u003cscript\\u003e"), "in the data too");
    // The data and the script of the page.
    assert_eq!(page.matches("<script").count(), 2);
    assert_eq!(page.matches("</script").count(), 2);
    let around = page.replace(data(&page), "");
    assert!(!around.contains("alert('"), "no quote ends an attribute");
    assert!(page.contains("keeps &lt;all&gt;"));
    assert!(!data(&page).contains('\u{2028}'));
}

#[test]
fn what_happened_is_told_and_matched() {
    let run = run(true);
    let chronicle = run.chronicle.as_ref().expect("it was asked for");
    let gathered = gather::gather(&run, chronicle, usize::MAX);
    assert_eq!(gathered.told.len(), chronicle.occurrences.len());
    assert!(gathered.violated && gathered.cut == 0 && gathered.start == 0);
    assert_eq!(gathered.lanes, [format!("{HOSTILE}/0"), "talker/0".to_owned()]);
    assert_eq!(gathered.moment, run.elapsed.as_nanos() as u64);
    let page = page(&run);
    let data = data(&page);
    for (list, of_it) in [
        ("messages", "\"arrived\"]"),
        ("operations", ",7,\"good\"]"),
        ("operations", ",7,\"bad\"]"),
    ] {
        assert!(data.contains(list) && data.contains(of_it), "{list} {of_it}");
    }
    // The keeper runs, is struck down, and runs again.
    let states: Vec<&str> =
        gathered.lives.iter().filter(|life| life.lane == 0).map(|life| life.state).collect();
    assert!(states.starts_with(&["running", "down"]), "{states:?}");
    assert!(states.ends_with(&["down", "running"]), "{states:?}");
    for told in ["does not hold", "power cut", "Drawn by the stage", "Tape", "hit 1", "Trace"] {
        assert!(page.contains(told), "{told}");
    }
}

#[test]
fn a_run_that_passed_says_so() {
    let page = page(&run(false));
    assert!(
        page.contains("<title>passed: keeper 3</title>") && !page.contains("does not hold</span>")
    );
    assert!(data(&page).contains("\"violated\":false,\"label\":\"end\""));
}

#[test]
fn the_page_is_cut_to_the_latest_and_says_so() {
    let run = run(true);
    let chronicle = run.chronicle.as_ref().expect("it was asked for");
    let all = chronicle.occurrences.len();
    assert!(all > 100, "{all} occurrences");
    let whole = Report::new(&run, chronicle);
    let cut = Report { occurrences: 30, choices: 5, ..whole.clone() };
    let gathered = gather::gather(&run, chronicle, 30);
    assert_eq!((gathered.told.len(), gathered.cut), (30, all as u64 - 30));
    assert!(
        gathered.start > 0
            && gathered.told[29].text == chronicle.describe(&chronicle.occurrences[all - 1].what)
    );
    assert!(cut.html().contains(&format!("The {} earliest occurrences are left out", all - 30)));
    assert!(!whole.html().contains("earliest occurrences are left out"));
    assert!(cut.html().len() + 40 * (all - 30) < whole.html().len(), "each costs some bytes");
    assert!(cut.html().contains("<pre>") && cut.html().contains("value of 5 choices, of "));
}

#[test]
fn what_began_before_the_cut_still_has_its_end() {
    let run = run(true);
    let chronicle = run.chronicle.as_ref().expect("it was asked for");
    let mut unsent = 0;
    for most in 0..chronicle.occurrences.len().min(60) {
        let gathered = gather::gather(&run, chronicle, most);
        let mut json = String::new();
        gathered.write_json(&mut json);
        assert_eq!(gathered.told.len(), most);
        unsent += usize::from(json.contains("\"messages\":[[-1,"));
    }
    assert!(unsent > 0, "some packet was sent before the cut and arrived after it");
}
