//! A decoder with its words.
use crate::Error;
use crate::vocabulary;
use longleaf_kernel::{Compute, Precision};
use longleaf_memory::finder::Profile;
use longleaf_model::{Checkpoint, Config, Decoder};
use longleaf_text::{ChatTemplate, Message, Special, TokenId, Tokenizer};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A model ready to answer: weights, tokenizer, chat template. Immutable; any number of sessions may share it.
#[derive(Debug)]
pub struct Model {
    path: PathBuf,
    decoder: Decoder,
    tokenizer: Tokenizer,
    template: Option<ChatTemplate>,
    finder: Option<Profile>,
}

impl Model {
    /// Load a GGUF file or a folder in Hugging Face's layout.
    pub fn open(path: &Path, compute: &Arc<Compute>) -> Result<Self, Error> {
        let checkpoint = Checkpoint::open(path)?;
        let config = checkpoint.config()?;
        let text = |source| Error::Text { path: path.to_owned(), source };
        let tokenizer = match &checkpoint {
            Checkpoint::Gguf(gguf) => Tokenizer::from_gguf(vocabulary::of(gguf)?).map_err(text)?,
            Checkpoint::Folder(_) => folder_tokenizer(path)?,
        };
        if tokenizer.len() > config.vocab_size {
            let (tokens, rows) = (tokenizer.len(), config.vocab_size);
            return Err(Error::Vocabulary { path: path.to_owned(), tokens, rows });
        }
        let template = ChatTemplate::of(&tokenizer).map_err(text)?;
        let decoder = Decoder::from_weights(&checkpoint, config, compute)?;
        let finder = Profile::known(decoder.config());
        Ok(Self { path: path.to_owned(), decoder, tokenizer, template, finder })
    }

    /// Compute products as closely as `precision` says ([`Precision::Exact`] otherwise).
    #[must_use]
    pub fn with_precision(mut self, precision: Precision) -> Self {
        self.decoder = self.decoder.with_precision(precision);
        self
    }

    /// The same model that finds as `finder` says (see [`crate::memory::calibrate`]).
    #[must_use]
    pub fn with_finder(self, finder: Profile) -> Self {
        Self { finder: Some(finder), ..self }
    }

    /// How it finds, if that is known.
    pub fn finder(&self) -> Option<Profile> {
        self.finder.clone()
    }

    /// The file or folder it came from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its name for tables: the file's without extension.
    pub fn name(&self) -> String {
        let name = self.path.file_stem().unwrap_or(self.path.as_os_str());
        name.to_string_lossy().into_owned()
    }

    /// The weights.
    pub fn decoder(&self) -> &Decoder {
        &self.decoder
    }

    /// Its numbers.
    pub fn config(&self) -> &Config {
        self.decoder.config()
    }

    /// Its words.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// How it wants to be talked to, if it was taught to talk.
    pub fn template(&self) -> Option<&ChatTemplate> {
        self.template.as_ref()
    }

    /// Tokens of a text as it stands, begun as the model expects.
    pub fn plain_prompt(&self, text: &str) -> Vec<TokenId> {
        let mut tokens = self.tokenizer.prefix().to_vec();
        tokens.extend(self.tokenizer.encode(text, Special::Text));
        tokens
    }

    /// Tokens of a conversation, ending where the model's answer begins. A model that was never taught to talk
    /// gets the messages' text as it stands.
    ///
    /// # Errors
    /// [`Error::Text`] if the template refuses the conversation.
    pub fn chat_prompt(&self, messages: &[Message]) -> Result<Vec<TokenId>, Error> {
        self.chat_prompt_with_tools(messages, &[])
    }

    /// The same, where the model is told of tools that it may call: JSON schemas, as OpenAI's interface has them. Models
    /// whose template knows no tools are not told of any.
    ///
    /// # Errors
    /// [`Error::Text`] if the template refuses the conversation.
    pub fn chat_prompt_with_tools(
        &self,
        messages: &[Message],
        tools: &[serde_json::Value],
    ) -> Result<Vec<TokenId>, Error> {
        let Some(template) = &self.template else {
            let text: Vec<_> = messages.iter().map(|message| message.content.as_str()).collect();
            return Ok(self.plain_prompt(&text.join("\n\n")));
        };
        let tokens = template.encode(&self.tokenizer, messages, tools, true);
        tokens.map_err(|source| Error::Text { path: self.path.clone(), source })
    }
}

pub(crate) fn folder_tokenizer(path: &Path) -> Result<Tokenizer, Error> {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    let file = folder.join("tokenizer.json");
    let tokenizer = fs::read(&file).map_err(Error::io(&file))?;
    let config = folder.join("tokenizer_config.json");
    let config = if config.exists() { Some(fs::read(&config).map_err(Error::io(&config))?) } else { None };
    let tokenizer = Tokenizer::from_json(&tokenizer, config.as_deref());
    let tokenizer = tokenizer.map_err(|source| Error::Text { path: file, source })?;
    // Newer models keep their template in a file of its own, which counts for more.
    let template = folder.join("chat_template.jinja");
    if !template.exists() {
        return Ok(tokenizer);
    }
    let source = fs::read_to_string(&template).map_err(Error::io(&template))?;
    Ok(tokenizer.with_chat_template(source))
}
