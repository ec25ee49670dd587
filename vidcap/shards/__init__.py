"""The shard format: schema, writer, reader, validation. The contract between pipeline and trainer."""
