//! Events on their way to a real RabbitMQ broker.

mod dead_letters;
mod env;
mod pika;
mod silent_broker;
mod tls;
mod topology;
