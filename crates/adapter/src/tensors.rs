//! Safetensors bytes to f32 values and back.

use std::collections::BTreeMap;

use half::{bf16, f16};
use safetensors::tensor::{Dtype, SafeTensors, TensorView};

use super::error::AdapterError;
use attune_model::weights::safetensors_header;

/// A tensor's values in f32.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorData {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values, row-major.
    pub values: Vec<f32>,
}

/// A safetensors file whose header fits its bytes; values are not looked at yet.
#[derive(Debug)]
pub struct TensorFile<'data> {
    pub(super) views: BTreeMap<String, TensorView<'data>>,
}

impl<'data> TensorFile<'data> {
    /// Reads the header of `bytes`; `file` is what errors call it. Allocates for the header only.
    ///
    /// # Errors
    /// Bytes that are not exactly one safetensors file.
    pub fn parse(file: &'static str, bytes: &'data [u8]) -> Result<Self, AdapterError> {
        let broken = |reason| AdapterError::Safetensors { file, reason };
        safetensors_header::check(&mut &*bytes, bytes.len() as u64).map_err(broken)?;
        let parsed = SafeTensors::deserialize(bytes).map_err(|e| broken(e.to_string()))?;
        Ok(Self {
            views: parsed.tensors().into_iter().collect(),
        })
    }

    /// Names and shapes, sorted by name.
    pub fn shapes(&self) -> impl ExactSizeIterator<Item = (&str, &[usize])> {
        self.views
            .iter()
            .map(|(name, v)| (name.as_str(), v.shape()))
    }

    /// The values of every tensor.
    ///
    /// # Errors
    /// A type other than F32, F16 and BF16, a NaN or an infinity.
    pub fn values(&self) -> Result<BTreeMap<String, TensorData>, AdapterError> {
        let decoded = self.views.iter().map(|(name, view)| {
            let values = decode(name, view)?;
            check_finite(name, &values)?;
            let shape = view.shape().to_vec();
            Ok((name.clone(), TensorData { shape, values }))
        });
        decoded.collect()
    }
}

/// The bytes of a safetensors file with these tensors, in F32. Equal tensors give equal bytes.
///
/// # Errors
/// Values that do not fill their shape.
pub fn encode(tensors: &BTreeMap<String, TensorData>) -> Result<Vec<u8>, AdapterError> {
    let broken = |e: safetensors::SafeTensorError| AdapterError::Safetensors {
        file: "adapter.safetensors",
        reason: e.to_string(),
    };
    let bytes: Vec<Vec<u8>> = tensors
        .values()
        .map(|t| t.values.iter().flat_map(|v| v.to_le_bytes()).collect())
        .collect();
    let views = tensors.iter().zip(&bytes).map(|((name, tensor), bytes)| {
        let view = TensorView::new(Dtype::F32, tensor.shape.clone(), bytes).map_err(broken)?;
        Ok((name.as_str(), view))
    });
    let views = views.collect::<Result<Vec<_>, AdapterError>>()?;
    safetensors::serialize(views, None).map_err(broken)
}

/// Refuses values that no adapter can hold.
///
/// # Errors
/// The first NaN or infinity.
pub(super) fn check_finite(name: &str, values: &[f32]) -> Result<(), AdapterError> {
    match values.iter().position(|v| !v.is_finite()) {
        Some(index) => Err(AdapterError::NotFinite {
            name: name.to_owned(),
            index,
            value: values[index],
        }),
        None => Ok(()),
    }
}

fn decode(name: &str, view: &TensorView<'_>) -> Result<Vec<f32>, AdapterError> {
    let data = view.data();
    let halves = || data.chunks_exact(2).map(|b| [b[0], b[1]]);
    match view.dtype() {
        Dtype::F32 => Ok(data
            .chunks_exact(4)
            .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
            .collect()),
        Dtype::F16 => Ok(halves().map(|b| f16::from_le_bytes(b).to_f32()).collect()),
        Dtype::BF16 => Ok(halves().map(|b| bf16::from_le_bytes(b).to_f32()).collect()),
        other => Err(AdapterError::Dtype {
            name: name.to_owned(),
            got: other.to_string(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8]) -> Result<BTreeMap<String, TensorData>, AdapterError> {
        TensorFile::parse("t.safetensors", bytes)?.values()
    }

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn values_survive_writing() {
        let tensor = |shape: &[usize], values: &[f32]| TensorData {
            shape: shape.to_vec(),
            values: values.to_vec(),
        };
        let tensors = BTreeMap::from([
            ("b".to_owned(), tensor(&[2, 2], &[1.0, -2.5, 1e-40, -0.0])),
            (
                "a".to_owned(),
                tensor(&[3], &[f32::MAX, f32::MIN_POSITIVE, 0.1]),
            ),
        ]);
        let bytes = encode(&tensors).unwrap();
        assert_eq!(bytes, encode(&tensors.clone()).unwrap());
        assert_eq!(parse(&bytes).unwrap(), tensors);
        let short = BTreeMap::from([("a".to_owned(), tensor(&[2, 2], &[1.0]))]);
        assert!(encode(&short).is_err());
    }

    #[test]
    fn halves_become_f32() {
        let header = r#"{"__metadata__":{"format":"pt"},
            "h":{"dtype":"F16","shape":[2],"data_offsets":[0,4]},
            "b":{"dtype":"BF16","shape":[1],"data_offsets":[4,6]}}"#;
        let mut data = Vec::new();
        data.extend(f16::from_f32(1.5).to_le_bytes());
        data.extend(f16::from_f32(-0.25).to_le_bytes());
        data.extend(bf16::from_f32(3.0).to_le_bytes());
        let tensors = parse(&file(header, &data)).unwrap();
        assert_eq!(tensors["h"].values, [1.5, -0.25]);
        assert_eq!(tensors["b"].values, [3.0]);
    }

    #[test]
    fn other_types_and_unusable_values_are_named() {
        let ints = r#"{"n":{"dtype":"I32","shape":[1],"data_offsets":[0,4]}}"#;
        let err = parse(&file(ints, &[0; 4])).unwrap_err().to_string();
        assert!(err.contains("tensor n has type I32"), "{err}");
        let floats = r#"{"n":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        let data: Vec<u8> = [1.0, f32::NAN]
            .iter()
            .flat_map(|v| v.to_le_bytes())
            .collect();
        let err = parse(&file(floats, &data)).unwrap_err().to_string();
        assert!(err.contains("value NaN at index 1"), "{err}");
    }

    #[test]
    fn headers_that_lie_are_refused() {
        let huge = u64::MAX / 8;
        // Eight tensors whose sizes add up to just below 2^64.
        let overflow: Vec<String> = (0..8)
            .map(|i| {
                let (start, end) = (i * huge, (i + 1) * huge);
                format!(
                    r#""t{i}":{{"dtype":"U8","shape":[{huge}],"data_offsets":[{start},{end}]}}"#
                )
            })
            .collect();
        let cases = [
            vec![],
            vec![1, 2, 3],
            u64::MAX.to_le_bytes().to_vec(),
            file("not json", &[]),
            file("[]", &[]),
            file(&format!("{{{}}}", overflow.join(",")), &[]),
            file(
                r#"{"t":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#,
                &[0; 15],
            ),
            file(
                r#"{"t":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}"#,
                &[0; 17],
            ),
            file(
                r#"{"t":{"dtype":"F32","shape":[4],"data_offsets":[8,0]}}"#,
                &[0; 16],
            ),
            file(
                r#"{"t":{"dtype":"F32","shape":[4294967296,4294967296,4],"data_offsets":[0,16]}}"#,
                &[0; 16],
            ),
            file(
                r#"{"t":{"dtype":"XX","shape":[4],"data_offsets":[0,16]}}"#,
                &[0; 16],
            ),
        ];
        for bytes in cases {
            let err = parse(&bytes).unwrap_err();
            assert!(matches!(err, AdapterError::Safetensors { .. }), "{err}");
        }
    }
}
