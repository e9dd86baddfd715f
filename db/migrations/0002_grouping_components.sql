-- Keeps what each fingerprint hash is of, so that "why grouped here?" has an answer, and by which algorithm it was made, so
-- that a later one can find the issues of this one. A hash determines its components: they are stored once a hash, and an
-- event names its own hash, which also lets a merge be undone. Adds columns without a default, so it rewrites nothing and
-- holds its locks for milliseconds.

alter table issue_hashes
  add column algo text,                             -- null: hashed before algorithms were named, or by hand
  add column components json;                       -- the JSON whose sha256 the hash begins

alter table events add column hash uuid;            -- the first of its hashes; null: stored before hashes were kept, or by hand

-- Its parameters changed; db/ingest_batch.sql makes it anew.
drop function if exists ingest_batch;

insert into schema_migrations (name) values ('0002_grouping_components');
