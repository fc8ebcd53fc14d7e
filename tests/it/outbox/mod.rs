//! Events on their way to a real RabbitMQ broker.

mod chaos;
mod dead_letters;
mod env;
mod pika;
mod tls;
mod topology;
