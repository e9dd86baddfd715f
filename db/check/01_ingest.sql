-- Events go in through one function and come out as issues. To be tried with psql alone, on a database that the files of
-- db/migrations, db/ingest_batch.sql, db/triggers.sql and db/triage.sql were applied to:
--   psql -d mesher_check -f db/check/01_ingest.sql
-- Everything it makes belongs to the organization mesher-check, which the last of these files deletes.

-- Days to put events in; a running server makes them ahead.
select ensure_event_partitions((now() at time zone 'UTC')::date, (now() at time zone 'UTC')::date + 1);

insert into organizations (slug, name) values ('mesher-check', 'Check');
insert into projects (organization_id, slug, name)
select id, 'check', 'Check' from organizations where slug = 'mesher-check';

-- Three events of two errors. Arrays are parallel, one element an event; the hash says which issue an event belongs to.
select b.*
  from projects p,
       ingest_batch(p.id,
         p_ids          => array['00000000-0000-4000-8000-000000000001', '00000000-0000-4000-8000-000000000002', '00000000-0000-4000-8000-000000000003']::uuid[],
         p_hashes       => array['aaaaaaaa-0000-4000-8000-000000000000', 'bbbbbbbb-0000-4000-8000-000000000000']::uuid[],
         p_groups       => array[1, 1, 2],
         p_received_at  => array[now(), now(), now()],
         p_timestamps   => array[now(), now(), now()],
         p_levels       => array['error', 'error', 'warning'],
         p_environments => array['production', 'staging', 'production'],
         p_releases     => array['shop@1.0.0', 'shop@1.0.0', null],
         p_platforms    => array['node', 'node', 'python'],
         p_titles       => array['TypeError: x is not a function', 'TypeError: x is not a function', 'Slow query'],
         p_culprits     => array['checkout', 'checkout', null],
         p_messages     => array[null, null, 'Slow query'],
         p_transactions => array['POST /pay', 'POST /pay', null],
         p_server_names => array['web-1', 'web-2', 'web-1'],
         p_users        => array['id:1', 'id:2', null],
         p_payloads     => array['{"n": 1}', '{"n": 2}', '{"n": 3}']::json[],
         p_tag_keys     => array['browser', 'plan'],
         p_tag_values   => array['Firefox', 'free'],
         p_tag_groups   => array[1, 1, 2],
         p_tag_pairs    => array[1, 2, 2],
         p_tag_counts   => array[1, 1, 1]) as b
 where p.slug = 'check';

-- The first of them again, as an SDK does that got no answer: the same issue, and nothing is counted twice.
select b.*
  from projects p,
       ingest_batch(p.id,
         p_ids          => array['00000000-0000-4000-8000-000000000001']::uuid[],
         p_hashes       => array['aaaaaaaa-0000-4000-8000-000000000000']::uuid[],
         p_groups       => array[1],
         p_received_at  => array[now()],
         p_timestamps   => array[now()],
         p_levels       => array['error'],
         p_environments => array['production'],
         p_releases     => array['shop@1.0.0'],
         p_platforms    => array['node'],
         p_titles       => array['TypeError: x is not a function'],
         p_culprits     => array['checkout'],
         p_messages     => array[null],
         p_transactions => array['POST /pay'],
         p_server_names => array['web-1'],
         p_users        => array['id:1'],
         p_payloads     => array['{"n": 1}']::json[],
         p_tag_keys     => array[]::text[],
         p_tag_values   => array[]::text[],
         p_tag_groups   => array[]::integer[],
         p_tag_pairs    => array[]::integer[],
         p_tag_counts   => array[]::integer[],
         p_uncounted    => array[1]) as b
 where p.slug = 'check';

-- CHECK-1 has two events of two users, CHECK-2 has one event.
select short_id, title, status, event_count, user_count
  from issues_overview
 where project_id = (select id from projects where slug = 'check')
 order by short_id;

-- An event's body is the SDK's own JSON.
select id, level, environment, payload ->> 'n' as n
  from events
 where project_id = (select id from projects where slug = 'check')
 order by id;
