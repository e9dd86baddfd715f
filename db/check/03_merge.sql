-- Two issues become one, and two again. After 02_listen.sql:
--   psql -d mesher_check -f db/check/03_merge.sql

listen mesher;

-- Heard: "issues" with the action merged for CHECK-2, and updated for CHECK-1.
select mesher_merge_issues(i.project_id, i.id, array(select o.id from issues o where o.project_id = i.project_id and o.short_id = 'CHECK-2'))
  from issues i
 where i.project_id = (select id from projects where slug = 'check') and i.short_id = 'CHECK-1';

-- All four events are of CHECK-1.
select o.short_id, o.event_count, (select count(*) from events e where e.project_id = o.project_id and e.issue_id = o.id) as events
  from issues_overview o
 where o.project_id = (select id from projects where slug = 'check')
 order by o.short_id;

-- Heard: created for CHECK-2, which is as it was, and updated for CHECK-1.
select mesher_unmerge(h.project_id, h.issue_id, array_agg(h.hash))
  from issue_hashes h
 where h.project_id = (select id from projects where slug = 'check') and h.merged_from is not null
 group by h.project_id, h.issue_id;

select o.short_id, o.event_count, (select count(*) from events e where e.project_id = o.project_id and e.issue_id = o.id) as events
  from issues_overview o
 where o.project_id = (select id from projects where slug = 'check')
 order by o.short_id;
