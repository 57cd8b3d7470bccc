-- Questions that analysts ask, one query each. Run one with: portrait sql "SELECT …"

-- Who likes books most?
SELECT user_id, weight, confidence, last_seen FROM tags_long WHERE tag = 'books' ORDER BY weight DESC LIMIT 20;

-- How many users have each interest, and how strong is it?
SELECT tag, any_value(zh) AS zh, count(*) AS users, avg(weight) AS mean_weight
FROM tags_long WHERE level = 1 GROUP BY tag ORDER BY users DESC, tag;

-- Which events stand behind a user's interests?
SELECT tag, event_id, event_time, modality, score FROM evidence ORDER BY user_id, weight DESC, event_time DESC LIMIT 20;

-- Whose main interest changed?
SELECT user_id, created, previous_top_category, top_category
FROM profile_changes WHERE top_category <> previous_top_category ORDER BY created DESC;

-- What did profiles look like a day ago?
SELECT user_id, top_category, sentiment FROM profiles_as_of(now() - INTERVAL 1 DAY) ORDER BY user_id LIMIT 20;

-- Which modalities do profiles rest on?
SELECT * FROM modality_coverage ORDER BY users DESC;

-- How fresh are the profiles?
SELECT age, count(*) AS users, median(lag_s) AS median_lag_s FROM freshness GROUP BY age ORDER BY users DESC;

-- What do reviews praise or complain about?
SELECT aspect.id AS aspect, count(*) AS mentions, avg(aspect.sentiment) AS sentiment
FROM (SELECT unnest(aspects) AS aspect FROM events_unique) GROUP BY ALL ORDER BY mentions DESC, aspect;

-- How many events came in on each day, by modality?
SELECT CAST(event_time AS DATE) AS day, modality, count(*) AS events
FROM events_unique GROUP BY ALL ORDER BY day DESC, modality;

-- Which users are closest to one, by their fused vectors?
SELECT o.user_id, list_cosine_similarity(o.embedding, u.embedding) AS similarity
FROM profiles_latest u JOIN profiles_latest o ON o.profile_space = u.profile_space AND o.user_id <> u.user_id
WHERE u.user_id = (SELECT min(user_id) FROM profiles_latest) ORDER BY similarity DESC LIMIT 10;
