-- Views over the two parquet tables. $profiles and $events are filled in by `portrait sql`.
-- Every view is used to rows that come twice: see features/tables/schema.py.

CREATE OR REPLACE VIEW profiles AS SELECT * FROM $profiles;
COMMENT ON VIEW profiles IS 'Table: one row per written profile, by day of writing (dt); rows may come twice.';

CREATE OR REPLACE VIEW events AS SELECT * FROM $events;
COMMENT ON VIEW events IS 'Table: one row per encoded event, by day of writing (dt); rows may come twice.';

CREATE OR REPLACE VIEW profiles_latest AS
SELECT * FROM profiles
QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY created DESC, revision DESC) = 1;
COMMENT ON VIEW profiles_latest IS 'The newest profile of each user.';

-- What the online store served at t. Profiles count from when they were written, so late events do not leak.
CREATE OR REPLACE MACRO profiles_as_of(t) AS TABLE
SELECT * FROM profiles
WHERE created <= CAST(t AS TIMESTAMPTZ)
QUALIFY row_number() OVER (PARTITION BY user_id ORDER BY created DESC, revision DESC) = 1;
COMMENT ON MACRO TABLE profiles_as_of IS 'The profile of each user as it was served at the time t.';

CREATE OR REPLACE VIEW profile_changes AS
WITH versions AS (
    SELECT * FROM profiles
    QUALIFY row_number() OVER (PARTITION BY user_id, revision, event_space, profile_space ORDER BY created) = 1
), pairs AS (
    SELECT *, lag(versions) OVER (PARTITION BY user_id ORDER BY created, revision) AS before FROM versions
)
SELECT
    user_id, created, revision,
    before.revision AS previous_revision,
    version - coalesce(before.version, 0) AS new_events,
    top_category,
    before.top_category AS previous_top_category,
    list_filter(interests, lambda tag: NOT list_contains(coalesce(before.interests, []), tag)) AS gained,
    list_filter(coalesce(before.interests, []), lambda tag: NOT list_contains(interests, tag)) AS lost,
    sentiment,
    sentiment - before.sentiment AS sentiment_change,
    CASE WHEN profile_space = before.profile_space
        THEN 1 - list_cosine_similarity(embedding, before.embedding) END AS moved
FROM pairs;
COMMENT ON VIEW profile_changes IS 'What each written version of a profile changed against the one before it.';
COMMENT ON COLUMN profile_changes.previous_revision IS 'revision of the version before; null: the first';
COMMENT ON COLUMN profile_changes.new_events IS 'events applied since the version before';
COMMENT ON COLUMN profile_changes.previous_top_category IS 'top_category of the version before';
COMMENT ON COLUMN profile_changes.gained IS 'tag ids that are new';
COMMENT ON COLUMN profile_changes.lost IS 'tag ids that are gone';
COMMENT ON COLUMN profile_changes.sentiment_change IS 'difference of sentiment';
COMMENT ON COLUMN profile_changes.moved IS 'cosine distance of the fused vectors; null between two spaces';

CREATE OR REPLACE VIEW tags_long AS
WITH one AS (
    SELECT user_id, created, unnest(from_json(tags, '[{"id": "VARCHAR", "zh": "VARCHAR", "en": "VARCHAR",
        "parent": "VARCHAR", "level": "INTEGER", "weight": "FLOAT", "confidence": "FLOAT",
        "share": {"text": "FLOAT", "image": "FLOAT", "voice": "FLOAT"},
        "last_seen": "TIMESTAMPTZ", "evidence": ["VARCHAR"]}]')) AS tag
    FROM profiles_latest
)
SELECT
    user_id, created, tag.id AS tag, tag.zh AS zh, tag.en AS en, tag.parent AS parent, tag.level AS level,
    tag.weight AS weight, tag.confidence AS confidence, tag.share.text AS share_text, tag.share.image AS share_image,
    tag.share.voice AS share_voice, tag.last_seen AS last_seen, tag.evidence AS evidence
FROM one;
COMMENT ON VIEW tags_long IS 'One row per user and tag of the newest profiles.';
COMMENT ON COLUMN tags_long.tag IS 'tag id';
COMMENT ON COLUMN tags_long.zh IS 'Chinese name';
COMMENT ON COLUMN tags_long.en IS 'English name';
COMMENT ON COLUMN tags_long.parent IS 'the category that it is below; null: first level';
COMMENT ON COLUMN tags_long.level IS '1: category, 2: below one';
COMMENT ON COLUMN tags_long.weight IS '0..1: share among the tags of its level';
COMMENT ON COLUMN tags_long.confidence IS '0..1: how much evidence there is';
COMMENT ON COLUMN tags_long.share_text IS '0..1: how much of the weight comes from reviews';
COMMENT ON COLUMN tags_long.share_image IS '0..1: how much of the weight comes from photos';
COMMENT ON COLUMN tags_long.share_voice IS '0..1: how much of the weight comes from voice clips';
COMMENT ON COLUMN tags_long.last_seen IS 'time of the newest supporting event';
COMMENT ON COLUMN tags_long.evidence IS 'keys (16 hex digits) of the newest two supporting events';

CREATE OR REPLACE VIEW events_unique AS
SELECT * FROM events
QUALIFY row_number() OVER (
    PARTITION BY user_id, source, event_id ORDER BY dt DESC, record_time DESC, "offset" DESC
) = 1;
COMMENT ON VIEW events_unique IS 'Each event once; of one that was encoded anew, the row last written.';

CREATE OR REPLACE VIEW evidence AS
WITH keys AS (SELECT user_id, tag, weight, unnest(evidence) AS event_key FROM tags_long)
SELECT
    k.user_id, k.tag, k.weight, k.event_key, e.source, e.event_id, e.event_time, e.modality,
    list_extract(list_filter(e.tags, lambda t: t.id = k.tag), 1).score AS score,
    e.sentiment, e.labels
FROM keys k
LEFT JOIN events_unique e ON e.user_id = k.user_id AND e.event_key = CAST('0x' || k.event_key AS UBIGINT);
COMMENT ON VIEW evidence IS 'The events behind each tag of the newest profiles; nulls where an event is not kept.';
COMMENT ON COLUMN evidence.tag IS 'tag id';
COMMENT ON COLUMN evidence.weight IS 'weight of the tag in the profile';
COMMENT ON COLUMN evidence.event_key IS 'key of the event, 16 hex digits';
COMMENT ON COLUMN evidence.score IS '0..1: of this tag in the event; null where it carries a tag below it';

CREATE OR REPLACE VIEW modality_coverage AS
SELECT
    modality_mask & 1 > 0 AS has_text, modality_mask & 2 > 0 AS has_image, modality_mask & 4 > 0 AS has_voice,
    count(*) AS users,
    count(*) / sum(count(*)) OVER () AS share,
    CAST(sum(version) AS BIGINT) AS events
FROM profiles_latest
GROUP BY ALL;
COMMENT ON VIEW modality_coverage IS 'Users by the modalities that their newest profiles rest on.';
COMMENT ON COLUMN modality_coverage.has_text IS 'reviews were seen';
COMMENT ON COLUMN modality_coverage.has_image IS 'photos were seen';
COMMENT ON COLUMN modality_coverage.has_voice IS 'voice clips were seen';
COMMENT ON COLUMN modality_coverage.users IS 'users with just these modalities';
COMMENT ON COLUMN modality_coverage.share IS '0..1: of all users';
COMMENT ON COLUMN modality_coverage.events IS 'events applied to them';

CREATE OR REPLACE VIEW freshness AS
SELECT
    user_id, event_timestamp, created,
    epoch(now() - event_timestamp) / 86400 AS age_days,
    epoch(created - event_timestamp) AS lag_s,
    CASE
        WHEN now() - event_timestamp < INTERVAL 1 DAY THEN '< 1 d'
        WHEN now() - event_timestamp < INTERVAL 7 DAY THEN '< 7 d'
        WHEN now() - event_timestamp < INTERVAL 14 DAY THEN '< 14 d'
        WHEN now() - event_timestamp < INTERVAL 40 DAY THEN '< 40 d'
        ELSE '40 d or more'
    END AS age
FROM profiles_latest;
COMMENT ON VIEW freshness IS 'How old the newest profile of each user is.';
COMMENT ON COLUMN freshness.age_days IS 'days since the newest event';
COMMENT ON COLUMN freshness.lag_s IS 'seconds from the newest event to the writing of the profile';
COMMENT ON COLUMN freshness.age IS 'band of the age';
