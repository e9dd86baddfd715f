-- Whatever commits is heard on channel mesher, whoever committed it; what rolls back is not. After 01_ingest.sql:
--   psql -d mesher_check -f db/check/02_listen.sql

listen mesher;

-- Heard: "issues" with the action resolved and the role as actor, and one unresolved issue less.
update issues set status = 'resolved'
 where project_id = (select id from projects where slug = 'check') and short_id = 'CHECK-1';

-- Not heard, and not recorded.
begin;
update issues set status = 'resolved'
 where project_id = (select id from projects where slug = 'check') and short_id = 'CHECK-2';
rollback;

-- Heard: "events" with the new event, and "issues" with the action regressed, since the issue was resolved.
select b.*
  from projects p,
       ingest_batch(p.id,
         p_ids          => array['00000000-0000-4000-8000-000000000004']::uuid[],
         p_hashes       => array['aaaaaaaa-0000-4000-8000-000000000000']::uuid[],
         p_groups       => array[1],
         p_received_at  => array[now()],
         p_timestamps   => array[now()],
         p_levels       => array['error'],
         p_environments => array['production'],
         p_releases     => array['shop@1.0.1'],
         p_platforms    => array['node'],
         p_titles       => array['TypeError: x is not a function'],
         p_culprits     => array['checkout'],
         p_messages     => array[null],
         p_transactions => array['POST /pay'],
         p_server_names => array['web-1'],
         p_users        => array['id:1'],
         p_payloads     => array['{"n": 4}']::json[],
         p_tag_keys     => array[]::text[],
         p_tag_values   => array[]::text[],
         p_tag_groups   => array[]::integer[],
         p_tag_pairs    => array[]::integer[],
         p_tag_counts   => array[]::integer[]) as b
 where p.slug = 'check';

-- Who did what: created twice, resolved by you, regressed by ingest.
select i.short_id, a.action, a.actor, a.data
  from issue_activity a
  join issues i on i.project_id = a.project_id and i.id = a.issue_id
 where a.project_id = (select id from projects where slug = 'check')
 order by a.id;

-- The count as dashboards show it is the count of the issues.
select c.unresolved, c.version,
       (select count(*) from issues i where i.project_id = c.project_id and i.status = 'unresolved') as counted
  from project_counters c
 where c.project_id = (select id from projects where slug = 'check');
