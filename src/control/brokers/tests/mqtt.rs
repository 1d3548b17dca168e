//! Brokers that speak MQTT.
