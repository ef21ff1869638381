//! HTTP: the OpenAI surface.
