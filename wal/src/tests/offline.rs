//! What the offline tools say of a log is what opening it says; and what they salvage of a damaged
//! one is a prefix of what was acknowledged.

#![expect(clippy::disallowed_methods, reason = "images are also read as mapped files")]

use std::path::PathBuf;

use futures_util::FutureExt;
use woodchuck_io::mapped::MappedDisk;
use woodchuck_io::{Disk, RandomStream};

use super::image::{Image, SEGMENT_BYTES, corrupt, path, recover_from, segment_path, witnessed};
use crate::LogError;
use crate::format::{HEADER_BYTES, Name, checksum};
use crate::offline::{Damage, Examination, Found, FrameFacts, Harm, OfflineLog, Role};

/// What the offline tools find in a log.
struct Looked<F> {
    examination: Examination<F>,
    /// What `examine` replayed.
    replayed: Vec<Vec<u8>>,
    salvaged: Vec<Vec<u8>>,
    found: Vec<Found>,
}

impl<F> Looked<F> {
    fn frames(&self) -> impl Iterator<Item = FrameFacts> {
        self.found.iter().filter_map(|found| match found {
            Found::Frame(facts, _) => Some(*facts),
            _ => None,
        })
    }

    fn damages(&self) -> impl Iterator<Item = &Damage> {
        self.found.iter().filter_map(|found| match found {
            Found::Damage(damage) => Some(damage),
            _ => None,
        })
    }

    fn acknowledged_damages(&self) -> usize {
        self.damages().filter(|damage| damage.harm == Harm::Acknowledged).count()
    }
}

fn look<D: Disk>(disk: D, directory: PathBuf) -> Result<Looked<D::File>, LogError> {
    let work = async {
        let log = OfflineLog::open(disk, directory).await?;
        let mut replayed = Vec::new();
        let replay = |commit: crate::Recovered| {
            replayed.push(commit.bytes.to_vec());
            Ok(())
        };
        let examination = log.examine(replay).await?;
        let mut salvaged = Vec::new();
        let mut salvage = examination.salvage();
        while let Some(commits) = salvage.next().await? {
            salvaged.extend(commits.into_iter().map(|commit| commit.bytes.to_vec()));
        }
        let mut found = Vec::new();
        log.scan(&examination, |one| found.push(one)).await?;
        drop(salvage);
        Ok(Looked { examination, replayed, salvaged, found })
    };
    work.now_or_never().expect("disks in memory and mapped ones never wait")
}

/// Compares all that the tools say with what opening says. Returns whether the log is corrupt.
fn agree<D: Disk>(disk: &D, directory: PathBuf, opened: super::image::Outcome) -> bool {
    let looked = look(disk.clone(), directory);
    match (opened, looked) {
        (Ok(found), Ok(looked)) => {
            let examination = &looked.examination;
            assert_eq!(examination.verdict.as_ref().ok(), Some(&found.survey.verdict));
            assert_eq!(examination.next_lsn.get(), found.survey.next_lsn);
            assert_eq!(examination.frames, found.survey.frames);
            assert_eq!(examination.identity, found.survey.identity);
            assert_eq!(looked.replayed, found.commits());
            assert_eq!(looked.salvaged, looked.replayed);
            assert_eq!(looked.acknowledged_damages(), 0);
            false
        }
        (Err(error), Ok(looked)) => {
            let said = looked.examination.verdict.as_ref().expect_err("opening refuses");
            assert_eq!(said.to_string(), error.to_string());
            assert!(said.is_corrupt());
            assert!(looked.acknowledged_damages() > 0, "{said}");
            true
        }
        (Err(error), Err(said)) => {
            assert_eq!(said.to_string(), error.to_string());
            assert!(!said.is_corrupt(), "damage is a verdict");
            false
        }
        (Ok(_), Err(error)) => panic!("it opens, and the tools say {error}"),
    }
}

/// Logs in different states, with the commits that each of them serves.
fn images() -> Vec<(Image, Vec<Vec<u8>>)> {
    let witnessed = witnessed();
    let mut torn = witnessed.clone();
    torn.start(4).data(&[b"durable"]);
    torn.lag = 0;
    // Bytes without a pattern: a copy of some of them heals no others.
    let mut bytes = [0; 6000];
    RandomStream::from_seed([6; 32]).fill(&mut bytes);
    for _ in 0..4 {
        bytes.reverse();
        torn.data(&[b"in flight", &bytes]);
        torn.lag += 1;
    }
    let lost = torn.find(torn.next_lsn - 3);
    torn.bytes_of(&lost)[4096..4608].fill(0);
    let served_of_torn = torn.commits(1, lost.header.lsn);
    let mut carried = witnessed.clone();
    carried.data(&[b"unproven"]).carry_over(4, witnessed.next_lsn - 1);
    carried.data(&[b"after"]).start(5).data(&[b"last", &[3; 9000]]).witness();
    carried.prepare(6);
    let mut restarted = witnessed.clone();
    restarted.restart(4, witnessed.next_lsn - 1).data(&[b"again"]).witness();
    let mut trimmed = witnessed.clone();
    trimmed.trim = 5;
    trimmed.start(4).data(&[b"behind"]).witness();
    trimmed.files.remove("0000000000000001.wal");
    let served_of_trimmed = trimmed.commits(5, trimmed.next_lsn);
    // The trim point is in the middle of a segment.
    let mut half = witnessed.clone();
    half.trim = 7;
    half.start(4).data(&[b"behind"]).witness();
    let served_of_half = half.commits(7, half.next_lsn);
    [witnessed, carried, restarted]
        .into_iter()
        .map(|image| (image.clone(), image.commits(1, image.next_lsn)))
        .chain([(torn, served_of_torn), (trimmed, served_of_trimmed), (half, served_of_half)])
        .collect()
}

/// Damages an image somewhere.
fn spoil(image: &mut Image, random: &mut RandomStream) {
    let names: Vec<String> = image.files.keys().cloned().collect();
    let pick = |random: &mut RandomStream| names[random.below(names.len() as u64) as usize].clone();
    let name = pick(random);
    if random.below(12) == 0 {
        match random.below(3) {
            0 => drop(image.files.remove(&name)),
            1 => {
                let blocks = random.below(SEGMENT_BYTES as u64 / 4096) as usize;
                if let Some(file) = image.files.get_mut(&name) {
                    file.truncate(blocks * 4096 + random.below(2) as usize * 100);
                }
            }
            _ => {
                let other = pick(random);
                if let Some(copy) = image.files.get(&name).cloned() {
                    image.files.insert(other, copy);
                }
            }
        }
        return;
    }
    let Some(file) = image.files.get_mut(&name).filter(|file| file.len() > 16) else { return };
    let at = random.below(file.len() as u64) as usize;
    let length = (1 + random.below(9000) as usize).min(file.len() - at);
    match random.below(5) {
        0 => random.fill(&mut file[at..at + length]),
        1 => file[at..at + length].fill(0),
        2 => file[at] ^= 1 << random.below(8),
        3 => {
            // A header of which one field is wrong, and its checksum right, as software damages it.
            // Not the trim point, which nothing else tells.
            let at = at / 4096 * 4096;
            if let Some(header) = file.get_mut(at..at + HEADER_BYTES) {
                let fields = (12..64).chain(72..88);
                let field = fields.clone().nth(random.below(fields.count() as u64) as usize);
                header[field.unwrap_or(12)] ^= 1 << random.below(8);
                let sum = checksum(&header[..HEADER_BYTES - 4]);
                header[HEADER_BYTES - 4..].copy_from_slice(&sum.to_le_bytes());
            }
        }
        _ => {
            let from = random.below((file.len() - length) as u64 + 1) as usize;
            file.copy_within(from..from + length, at);
        }
    }
}

#[test]
fn of_bodies_the_tools_say_what_opening_says() {
    let image = super::bodies::image();
    let (folder, disk) = image.folder();
    assert!(!agree(&disk, path(), recover_from(&folder)));
    let mut salvaged = Vec::new();
    // In the first body, the second, the third; and where there is none.
    for at in [4096, 8192, 14000, 8196] {
        let mut damaged = image.clone();
        damaged.bodies(2)[at] ^= 1;
        let (folder, disk) = damaged.folder();
        let is_corrupt = agree(&disk, path(), recover_from(&folder));
        assert_eq!(is_corrupt, at != 8196, "a byte at {at}");
        let looked = look(disk, path()).expect("it can be looked at");
        salvaged.push(looked.salvaged.len());
    }
    assert_eq!(salvaged, [0, 0, 3, 4], "what stands in front of the damaged frame");
}

#[test]
fn undamaged_logs_are_told_as_they_are() {
    for (image, served) in images() {
        let (folder, disk) = image.folder();
        assert!(!agree(&disk, path(), recover_from(&folder)));
        let looked = look(disk, path()).expect("nothing is damaged");
        assert_eq!(looked.salvaged, served);
    }
}

/// Damage as hardware does it: no commit is salvaged that was not served, or not in its place. And
/// whatever the damage, the tools agree with opening.
#[test]
fn the_tools_agree_with_opening_about_random_damage() {
    let images = images();
    let mut random = RandomStream::from_seed([7; 32]);
    let (mut corrupt, mut opened, mut kept) = (0, 0, 0);
    for round in 0..4000 {
        let (image, served) = &images[round % images.len()];
        let mut damaged = image.clone();
        for _ in 0..=random.below(3) {
            spoil(&mut damaged, &mut random);
        }
        let (folder, disk) = damaged.folder();
        if random.below(4) == 0 {
            for &generation in &[1, 2, 3] {
                let name = Name::Segment(generation).to_string();
                if damaged.files.contains_key(&name) && random.below(2) == 0 {
                    let file = disk.file(&segment_path(generation));
                    (0..1 + random.below(6)).for_each(|_| file.make_unreadable(random.below(16)));
                }
            }
        }
        match agree(&disk, path(), recover_from(&folder)) {
            true => corrupt += 1,
            false => opened += 1,
        }
        if let Ok(looked) = look(disk, path()) {
            let salvaged = &looked.salvaged;
            // If every frame is lost that told of the trim point, what was trimmed is there again.
            let is_earlier =
                image.trim > 1 && image.commits(1, image.next_lsn).starts_with(salvaged);
            assert!(
                served.starts_with(salvaged) || is_earlier,
                "round {round}: what is salvaged was not served"
            );
            kept += usize::from(!salvaged.is_empty());
        }
    }
    assert!(corrupt > 1500 && opened > 300 && kept > 1500, "{corrupt} {opened} {kept}");
}

/// The same through files that are mapped.
#[test]
fn mapped_files_are_read_as_others_are() {
    let images = images();
    let mut random = RandomStream::from_seed([8; 32]);
    let name = format!("woodchuck-offline-{}", std::process::id());
    let directory = std::env::temp_dir().join(name);
    let mut corrupt = 0;
    for round in 0..60 {
        let mut damaged = images[round % images.len()].0.clone();
        if round >= images.len() {
            spoil(&mut damaged, &mut random);
        }
        std::fs::create_dir_all(&directory).expect("a directory");
        for (name, bytes) in &damaged.files {
            std::fs::write(directory.join(name), bytes).expect("a file");
        }
        corrupt += u32::from(agree(&MappedDisk, directory.clone(), damaged.recover()));
        std::fs::remove_dir_all(&directory).expect("it is there");
    }
    assert!(corrupt > 10, "{corrupt}");
}

/// The frame that recovery found torn reaches the disk after all, late; then the start frame that
/// superseded it is damaged. What the late frame holds was never acknowledged.
#[test]
fn a_dead_tail_is_not_salvaged() {
    for data_lost in [false, true] {
        let mut image = Image::new();
        image.start(1).data(&[b"one"]).data(&[b"torn"]);
        image.lag = 1;
        image.data(&[b"dead"]);
        image.lag = 0;
        image.restart(2, 3);
        let start = image.find(3);
        image.data(&[b"two"]);
        let two = image.find(4);
        image.data(&[b"three"]).witness();
        image.bytes_of(&start)[20] ^= 1;
        if data_lost {
            image.bytes_of(&two)[20] ^= 1;
        }
        corrupt(image.recover());
        let looked = look(image.folder().1, path()).expect("damage is a verdict");
        assert_eq!(looked.salvaged, [b"one"]);
        assert_eq!(looked.examination.salvage_below.get(), 3);
    }
}

/// With the front missing, nothing is known to be in its place.
#[test]
fn nothing_is_salvaged_behind_a_missing_front() {
    let mut image = witnessed();
    image.files.remove("0000000000000001.wal");
    let looked = look(image.folder().1, path()).expect("damage is a verdict");
    assert!(looked.examination.verdict.is_err());
    assert_eq!(looked.salvaged, Vec::<Vec<u8>>::new());
}

#[test]
fn a_scan_goes_on_behind_damage_and_says_where_it_is() {
    let mut image = witnessed();
    let (header, payload) = (image.find(3), image.find(7));
    image.bytes_of(&header)[50] ^= 1;
    image.bytes_of(&payload)[4000] ^= 1;
    let looked = look(image.folder().1, path()).expect("damage is a verdict");
    let lsns: Vec<u64> = looked.frames().map(|frame| frame.lsn.get()).collect();
    let all: Vec<u64> = (1..image.next_lsn).filter(|&lsn| lsn != 3).collect();
    assert_eq!(lsns, all);
    for frame in looked.frames() {
        assert_eq!(frame.is_whole, frame.lsn.get() != 7);
        let known = (frame.lsn.get() != 1 && frame.lsn.get() != 4).then_some(true);
        assert_eq!(frame.follows, known, "frame {}", frame.lsn);
    }
    let places: Vec<_> = looked
        .damages()
        .map(|damage| (damage.segment, damage.offset, damage.lsn.map(|lsn| lsn.get()), damage.harm))
        .collect();
    let at = |placed: &super::image::Placed| placed.offset as u64;
    // A hole, the frame behind it, and the refusal of opening; then the second damage.
    assert_eq!(
        places,
        [
            (1, at(&header), Some(3), Harm::Acknowledged),
            (1, at(&image.find(4)), Some(3), Harm::Acknowledged),
            (1, at(&header), Some(3), Harm::Acknowledged),
            (2, at(&payload), Some(7), Harm::Acknowledged),
        ]
    );
    assert_eq!(looked.salvaged, image.commits(1, 3));
}

#[test]
fn a_link_that_is_wrong_is_told() {
    let mut image = witnessed();
    let placed = image.find(6);
    let frame = image.bytes_of(&placed);
    frame[76] ^= 1;
    let sum = checksum(&frame[..HEADER_BYTES - 4]);
    frame[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&sum.to_le_bytes());
    let looked = look(image.folder().1, path()).expect("damage is a verdict");
    let wrong: Vec<u64> = looked
        .frames()
        .filter(|frame| frame.follows == Some(false))
        .map(|frame| frame.lsn.get())
        .collect();
    assert_eq!(wrong, [6, 7], "its own, and that of the next, which speaks of another");
    assert_eq!(looked.salvaged, image.commits(1, 6));
}

#[test]
fn segments_are_told_by_what_they_are() {
    let mut image = witnessed();
    image.data(&[b"unproven"]);
    image.carry_over(4, image.next_lsn - 1);
    image.trim = 5;
    image.witness();
    image.prepare(6);
    let disk = image.folder().1;
    disk.put(&path().join("spare-3"), vec![0; SEGMENT_BYTES]);
    disk.put(&path().join("filling-9"), vec![0; 4096]);
    let looked = look(disk.clone(), path()).expect("nothing is damaged");
    let segments = &looked.examination.segments;
    let roles: Vec<_> = segments.iter().map(|facts| (facts.generation, facts.role)).collect();
    let live = |generation| (generation, Role::Live);
    assert_eq!(roles, [(1, Role::Trimmed), live(2), live(3), live(4), (6, Role::Prepared)]);
    let log = OfflineLog::open(disk, path()).now_or_never().expect("at once").expect("a log");
    assert_eq!(log.spares, [("spare-3".to_owned(), SEGMENT_BYTES as u64)]);
    assert_eq!(log.fillings, [("filling-9".to_owned(), 4096)]);
    assert_eq!(log.generations(), [1, 2, 3, 4, 6]);
}
