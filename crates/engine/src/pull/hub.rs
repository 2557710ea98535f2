//! The Hugging Face hub: plain HTTPS, resumed by byte ranges.
use super::partial::Partial;
use super::{Failure, PullEvent};
use serde::Deserialize;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use ureq::http::Response;
use ureq::{Agent, Body};

/// A hub to take files from.
#[derive(Debug, Clone)]
pub struct Hub {
    /// Its address, `https://huggingface.co` unless the user has another.
    pub endpoint: String,
    /// The user's access token, for models that need one.
    pub token: Option<String>,
}

/// The file in a repository's folder that says, once it is whole, which file in there is the model: one, or nothing if
/// the whole folder is.
const CHOSEN: &str = ".longleaf";

/// How long nothing may come before a connection counts as broken.
const SILENCE: Duration = Duration::from_mins(1);

/// How often a broken connection is taken up again while bytes still come.
const RESUMES: usize = 5;

/// `org/repo` or `org/repo:file`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Reference<'a> {
    repo: &'a str,
    file: Option<&'a str>,
}

/// One entry of the hub's list of a repository's files.
#[derive(Debug, Deserialize)]
struct Entry {
    path: String,
    size: u64,
    #[serde(default)]
    lfs: Option<Large>,
}

/// What the hub knows of a file kept outside git: its SHA-256.
#[derive(Debug, Deserialize)]
struct Large {
    oid: String,
}

impl Entry {
    fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
    }
}

impl<'a> Reference<'a> {
    /// `None` if `name` cannot be one: that needs exactly two plain names around a slash.
    pub(super) fn parse(name: &'a str) -> Option<Self> {
        let (repo, file) = match name.split_once(':') {
            Some((repo, file)) => (repo, Some(file)),
            None => (name, None),
        };
        let (org, model) = repo.split_once('/')?;
        let plain = |s: &str| {
            !s.is_empty()
                && !s.starts_with('.')
                && s.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
        };
        let safe = file.is_none_or(|file| file.split('/').all(plain));
        (plain(org) && plain(model) && safe).then_some(Self { repo, file })
    }

    fn folder(&self, models: &Path) -> PathBuf {
        models.join(self.repo.replace('/', "--"))
    }

    /// The file or folder, if an earlier pull finished it.
    pub(super) fn cached(&self, models: &Path) -> Option<PathBuf> {
        let folder = self.folder(models);
        if let Some(file) = self.file {
            let path = folder.join(file);
            return path.is_file().then_some(path);
        }
        // A file that was asked for by its name says nothing about what is chosen where none is named.
        let chosen = fs::read_to_string(folder.join(CHOSEN)).ok()?;
        let path = if chosen.is_empty() { folder } else { folder.join(chosen) };
        path.exists().then_some(path)
    }
}

impl Hub {
    /// Where the hub gives out a file.
    pub(super) fn file_url(&self, repo: &str, path: &str) -> String {
        format!("{}/{repo}/resolve/main/{path}", self.endpoint.trim_end_matches('/'))
    }

    /// Pull a file, or all files of a model in Hugging Face's layout, into `models`.
    pub(super) fn pull(
        &self,
        reference: &Reference<'_>,
        models: &Path,
        watch: &mut dyn FnMut(PullEvent<'_>),
    ) -> Result<PathBuf, Failure> {
        let entries = self.list(reference.repo)?;
        let chosen = choose(reference, &entries)?;
        let folder = reference.folder(models);
        for entry in &chosen {
            let path = folder.join(&entry.path);
            let parent = path.parent().expect("a file in a folder");
            fs::create_dir_all(parent).map_err(Failure::io(parent))?;
            if path.exists() {
                continue;
            }
            watch(PullEvent::File { path: &entry.path, bytes: Some(entry.size) });
            let hash = entry.lfs.as_ref().map_or("", |lfs| lfs.oid.as_str());
            let url = self.file_url(reference.repo, &entry.path);
            self.download(&url, &path, Some((entry.size, hash)), watch)?;
        }
        let model = match chosen.as_slice() {
            [file] => file.path.as_str(),
            _ => "",
        };
        if reference.file.is_none() {
            let path = folder.join(CHOSEN);
            fs::write(&path, model).map_err(Failure::io(&path))?;
        }
        Ok(if model.is_empty() { folder } else { folder.join(model) })
    }

    fn list(&self, repo: &str) -> Result<Vec<Entry>, Failure> {
        let url =
            format!("{}/api/models/{repo}/tree/main?recursive=true", self.endpoint.trim_end_matches('/'));
        let mut response = self.get(&url, 0)?;
        let list: Result<Vec<serde_json::Value>, _> = response.body_mut().read_json();
        let list = list.map_err(|_| Failure::NotAListing { url: url.clone() })?;
        let files = list.into_iter().filter(|entry| entry["type"] == "file");
        files
            .map(|entry| serde_json::from_value(entry).map_err(|_| Failure::NotAListing { url: url.clone() }))
            .collect()
    }

    /// Bring `url` to `path`; a connection that breaks is taken up again as long as bytes come.
    pub(super) fn download(
        &self,
        url: &str,
        path: &Path,
        expected: Option<(u64, &str)>,
        watch: &mut dyn FnMut(PullEvent<'_>),
    ) -> Result<(), Failure> {
        let mut partial = Partial::open(path)?;
        if expected.is_some_and(|(bytes, _)| partial.len() > bytes) {
            partial.keep(0)?;
        }
        for attempt in 0..=RESUMES {
            if expected.is_some_and(|(bytes, _)| partial.len() == bytes) {
                break;
            }
            let before = partial.len();
            let mut response = self.get(url, before)?;
            // Only 206 goes on from where we asked; 200 sends the file from its start.
            partial.keep(if response.status() == 206 { before } else { 0 })?;
            let length = response.body().content_length();
            let started = partial.len();
            let broken = |_| Failure::Interrupted { url: url.to_owned(), received: 0 };
            let copied = partial.append(response.body_mut().as_reader(), watch, broken);
            let short = length.is_some_and(|length| partial.len() - started < length)
                || expected.is_some_and(|(bytes, _)| partial.len() < bytes);
            match copied {
                Ok(()) if !short => break,
                Err(failure) if !matches!(failure, Failure::Interrupted { .. }) => return Err(failure),
                _ if attempt == RESUMES || partial.len() <= before => {
                    return Err(Failure::Interrupted { url: url.to_owned(), received: partial.len() });
                }
                _ => {}
            }
        }
        partial.finish(expected, watch)
    }

    fn get(&self, url: &str, from: u64) -> Result<Response<Body>, Failure> {
        let agent: Agent = Agent::config_builder()
            .timeout_resolve(Some(Duration::from_secs(5)))
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_recv_response(Some(Duration::from_secs(30)))
            .timeout_per_read(Some(SILENCE))
            .http_status_as_error(false)
            .user_agent(concat!("longleaf/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        let mut request = agent.get(url);
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        if from > 0 {
            request = request.header("Range", format!("bytes={from}-"));
        }
        let response = request
            .call()
            .map_err(|source| Failure::Network { url: url.to_owned(), source: Box::new(source) })?;
        match response.status().as_u16() {
            200 | 206 => Ok(response),
            status => Err(Failure::Refused { url: url.to_owned(), status }),
        }
    }
}

/// The files to pull: the one asked for; else a folder of safetensors with its papers; else the only GGUF, or the
/// only `Q4_K_M` among several.
fn choose<'a>(reference: &Reference<'_>, entries: &'a [Entry]) -> Result<Vec<&'a Entry>, Failure> {
    let missing = |wanted: &str| {
        let models = entries.iter().filter(|e| e.has_extension("gguf") || e.has_extension("safetensors"));
        let found = models.map(|e| e.path.as_str()).collect::<Vec<_>>().join(", ");
        Failure::NotInRepository {
            repo: reference.repo.to_owned(),
            wanted: wanted.to_owned(),
            found: if found.is_empty() { "no model files".to_owned() } else { found },
        }
    };
    if let Some(file) = reference.file {
        return match entries.iter().find(|entry| entry.path == file) {
            Some(entry) => Ok(vec![entry]),
            None => Err(missing(file)),
        };
    }
    let top = |entry: &&Entry| {
        Reference::parse(&format!("a/b:{}", entry.path)).is_some() && !entry.path.contains('/')
    };
    let weights: Vec<_> = entries.iter().filter(top).filter(|e| e.has_extension("safetensors")).collect();
    if !weights.is_empty() {
        let papers = entries.iter().filter(top).filter(|e| {
            (e.has_extension("json") || e.has_extension("jinja") || e.has_extension("model"))
                && e.path != "config.json"
        });
        let config =
            entries.iter().find(|e| e.path == "config.json").ok_or_else(|| missing("config.json"))?;
        return Ok(papers.chain(weights).chain([config]).collect());
    }
    let ggufs: Vec<_> = entries.iter().filter(top).filter(|e| e.has_extension("gguf")).collect();
    let medium: Vec<_> =
        ggufs.iter().copied().filter(|e| e.path.to_ascii_lowercase().contains("q4_k_m")).collect();
    match (ggufs.as_slice(), medium.as_slice()) {
        ([only], _) | (_, [only]) => Ok(vec![*only]),
        _ => Err(missing("single model file; name one as org/repo:file")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_two_plain_names() {
        assert_eq!(Reference::parse("a/b"), Some(Reference { repo: "a/b", file: None }));
        assert_eq!(Reference::parse("a/b:c/d.gguf"), Some(Reference { repo: "a/b", file: Some("c/d.gguf") }));
        for name in
            ["a", "/a/b", "a/b/c", "../b", "a/..", "./a", "a/b:", "a/b:../c", "a/b:/c", "a b/c", "~/b"]
        {
            assert_eq!(Reference::parse(name), None, "{name}");
        }
    }

    fn chosen(reference: &str, files: &[&str]) -> Result<Vec<String>, String> {
        let entries: Vec<_> =
            files.iter().map(|path| Entry { path: (*path).to_owned(), size: 1, lfs: None }).collect();
        let reference = Reference::parse(reference).expect("a reference");
        choose(&reference, &entries)
            .map(|list| list.into_iter().map(|e| e.path.clone()).collect())
            .map_err(|failure| failure.to_string())
    }

    #[test]
    fn the_files_of_a_model_are_chosen() {
        let folder = ["config.json", "README.md", "tokenizer.json", "model.safetensors", "onnx/model.json"];
        assert_eq!(
            chosen("a/b", &folder),
            Ok(vec!["tokenizer.json".into(), "model.safetensors".into(), "config.json".into()])
        );
        assert_eq!(chosen("a/b:README.md", &folder), Ok(vec!["README.md".into()]));
        assert_eq!(chosen("a/b", &["x-Q8_0.gguf", "x-Q4_K_M.gguf"]), Ok(vec!["x-Q4_K_M.gguf".into()]));
        assert_eq!(
            chosen("a/b", &["x-q8_0.gguf", "x-q2_k.gguf"]),
            Err("a/b on the hub has no single model file; name one as org/repo:file; \
                 it has x-q8_0.gguf, x-q2_k.gguf"
                .into())
        );
        assert_eq!(
            chosen("a/b:c", &["README.md"]),
            Err("a/b on the hub has no c; it has no model files".into())
        );
    }
}
