//! `longleaf search`
use crate::args::{Search, Stage};
use crate::commands::{meaning, pull};
use crate::output;
use crate::settings::Settings;
use anyhow::Result;
use longleaf_engine::Memory;
use longleaf_engine::memory::{Found, Stages, Way};
use serde_json::json;
use std::fmt::Write;

pub(crate) fn search(args: &Search, settings: &Settings) -> Result<()> {
    let model = pull::open_to_find(&args.model, settings)?;
    let mut memory = Memory::read_only(&settings.memory(&args.memory), &model)?;
    memory.set_ram(settings.ram);
    let encoder = meaning::of(&memory, &args.encoder.encoder, &model, settings)?;
    if let Some(encoder) = &encoder {
        memory = memory.with_meaning(encoder)?;
    }
    let stages = Stages {
        finder: !args.without.contains(&Stage::Finder),
        lexical: !args.without.contains(&Stage::Lexical),
        meaning: !args.without.contains(&Stage::Meaning),
        rerank: false,
    };
    let found = memory.passages(&args.query, stages, args.passages)?;
    if settings.json { output::json(&to_json(&found)) } else { output::text(&to_text(&found)) }
}

fn to_json(found: &[Found]) -> serde_json::Value {
    let passage = |found: &Found| {
        let mut ranks = serde_json::Map::new();
        for (way, rank) in Way::ALL.iter().zip(found.ranks) {
            ranks.insert(way.name().to_owned(), rank.into());
        }
        json!({
            "document": found.document,
            "start": found.start,
            "end": found.end,
            "text": found.text,
            "score": found.score,
            "ranks": ranks,
        })
    };
    json!({ "passages": found.iter().map(passage).collect::<Vec<_>>() })
}

fn to_text(found: &[Found]) -> String {
    let mut text = String::new();
    for (index, passage) in found.iter().enumerate() {
        let ways = Way::ALL.iter().zip(passage.ranks);
        let ways: Vec<String> =
            ways.filter_map(|(way, rank)| Some(format!("{} {}", way.name(), rank?))).collect();
        let _ = writeln!(
            text,
            "[{}] {}, bytes {}–{} ({})",
            index + 1,
            output::document(&passage.document),
            passage.start,
            passage.end,
            ways.join(", ")
        );
        let _ = writeln!(text, "    {}", passage.text.split_whitespace().collect::<Vec<_>>().join(" "));
    }
    if found.is_empty() {
        text.push_str("Nothing found.\n");
    }
    text
}
