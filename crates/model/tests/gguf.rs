//! What is written is what is read.
use longleaf_kernel::DType;
use longleaf_model::Gguf;
use longleaf_model::gguf::{Value, Writer};
use std::path::Path;

#[test]
fn metadata_and_tensors_come_back() {
    let mut w = Writer::new();
    w.string("general.architecture", "llama").u32("count", 7).f32("half", 0.5).boolean("yes", true);
    w.strings("tokenizer.ggml.tokens", &["a", "", "Ġthe", "🌲"]);
    w.i32s("types", &[1, -3]).f32s("scores", &[-1.5]);
    w.tensor_f32("x", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    w.tensor("y", DType::Q8_0, &[32], &[0; 34]);
    let gguf = Gguf::from_bytes(Path::new("memory"), w.finish()).expect("a good file");

    assert_eq!(gguf.string("general.architecture").expect("a string"), Some("llama"));
    assert_eq!(gguf.unsigned("count").expect("a number"), Some(7));
    assert_eq!(gguf.value("half"), Some(Value::Float(0.5)));
    assert_eq!(gguf.boolean("yes").expect("a boolean"), Some(true));
    assert_eq!(gguf.value("absent"), None);
    let array = |key| gguf.array(key).expect("an array").expect("there");
    let tokens = array("tokenizer.ggml.tokens").strings().expect("strings");
    assert_eq!((tokens.len(), tokens.collect::<Vec<_>>()), (4, vec!["a", "", "Ġthe", "🌲"]));
    assert_eq!(array("types").numbers().expect("numbers").collect::<Vec<_>>(), [1.0, -3.0]);
    assert_eq!(array("scores").numbers().expect("numbers").collect::<Vec<_>>(), [-1.5]);
    assert!(array("types").strings().is_none());
    assert_eq!(
        gguf.unsigned("half").expect_err("a float").to_string(),
        "memory: half is a float, expected a whole number"
    );
    assert_eq!(gguf.values().map(|(key, _)| key).collect::<Vec<_>>(), {
        let mut keys =
            ["general.architecture", "count", "half", "yes", "tokenizer.ggml.tokens", "types", "scores"];
        keys.sort_unstable();
        keys
    });

    let x = gguf.tensor("x").expect("there");
    assert_eq!((x.shape(), x.dtype, x.bytes.len()), (&[2, 3][..], DType::F32, 24));
    assert_eq!(x.bytes[4..8], 2.0_f32.to_le_bytes());
    assert_eq!(gguf.tensors().map(|t| t.name).collect::<Vec<_>>(), ["x", "y"]);
}
