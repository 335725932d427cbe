-- The tokens of an application (`portal.oauth`). The vendor hands out a new pair with every
-- renewal and the old one ends, so the pair in force has to outlive the process: it is stored
-- before anybody uses it. The key is a setting and never here; the other columns are bound to
-- the sealed pair, so that none of them can be exchanged unnoticed.
create table portal_tokens (
    one          boolean primary key default true check (one),
    sealed       bytea not null,
    member_id    text not null,
    user_id      bigint,
    endpoint     text,
    token_server text not null,
    expires_at   timestamptz,
    spent        bytea[] not null,
    generation   bigint not null,
    updated_at   timestamptz not null
);

comment on table portal_tokens is 'One row: the tokens of the application by which the portal is read, encrypted. Not for readers.';
comment on column portal_tokens.one is 'Always true: there is one row.';
comment on column portal_tokens.sealed is 'Access token and refresh token, encrypted with the key of `portal.oauth.token_key`.';
comment on column portal_tokens.member_id is 'The portal that they are for.';
comment on column portal_tokens.user_id is 'The portal''s user whose rights they have.';
comment on column portal_tokens.endpoint is 'Where calls go, as the authorization server said.';
comment on column portal_tokens.token_server is 'The authorization server that renews them.';
comment on column portal_tokens.expires_at is 'When the access token expires, by the authorization server''s clock.';
comment on column portal_tokens.spent is 'Fingerprints of the refresh tokens that were given in the settings and are used up. One that is not among them is newer than the stored pair.';
comment on column portal_tokens.generation is 'The lease under which they were stored.';
comment on column portal_tokens.updated_at is 'When they were stored.';
