//! A GGUF file's keys about its tokens, handed to the tokenizer.
use longleaf_model::{Error, Gguf};
use longleaf_text::{GgufVocabulary, TokenId};

/// The `tokenizer.ggml.*` keys of `gguf`.
pub(crate) fn of(gguf: &Gguf) -> Result<GgufVocabulary, Error> {
    let string = |key| gguf.string(key).map(|text| text.map(str::to_owned));
    let strings = |key| -> Result<Vec<String>, Error> {
        let list = gguf.array(key)?.and_then(|array| Some(array.strings()?.map(str::to_owned).collect()));
        Ok(list.unwrap_or_default())
    };
    let numbers = |key| -> Result<Vec<f64>, Error> {
        Ok(gguf.array(key)?.and_then(|array| Some(array.numbers()?.collect())).unwrap_or_default())
    };
    let id = |key| -> Result<Option<TokenId>, Error> {
        Ok(gguf.unsigned(key)?.map(|id| TokenId::try_from(id).unwrap_or(TokenId::MAX)))
    };
    Ok(GgufVocabulary {
        model: string("tokenizer.ggml.model")?.unwrap_or_default(),
        pre: string("tokenizer.ggml.pre")?,
        tokens: strings("tokenizer.ggml.tokens")?,
        scores: numbers("tokenizer.ggml.scores")?.into_iter().map(|score| score as f32).collect(),
        token_types: numbers("tokenizer.ggml.token_type")?.into_iter().map(|kind| kind as i32).collect(),
        merges: strings("tokenizer.ggml.merges")?,
        bos: id("tokenizer.ggml.bos_token_id")?,
        eos: id("tokenizer.ggml.eos_token_id")?,
        eot: id("tokenizer.ggml.eot_token_id")?,
        eom: id("tokenizer.ggml.eom_token_id")?,
        unknown: id("tokenizer.ggml.unknown_token_id")?,
        separator: id("tokenizer.ggml.seperator_token_id")?,
        padding: id("tokenizer.ggml.padding_token_id")?,
        cls: id("tokenizer.ggml.cls_token_id")?,
        mask: id("tokenizer.ggml.mask_token_id")?,
        add_bos: gguf.boolean("tokenizer.ggml.add_bos_token")?,
        add_eos: gguf.boolean("tokenizer.ggml.add_eos_token")?,
        add_space_prefix: gguf.boolean("tokenizer.ggml.add_space_prefix")?,
        chat_template: string("tokenizer.chat_template")?,
    })
}
