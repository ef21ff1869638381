//! What must hold for every run of the engine, checked over random ones against naive models.

#[path = "properties/driver.rs"]
mod driver;
#[path = "properties/mock.rs"]
mod mock;
#[path = "properties/outputs.rs"]
mod outputs;
