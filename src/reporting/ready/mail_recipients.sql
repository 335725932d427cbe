select id, email, address, name, synced_at
from {data}.mail_recipients
where deleted_at is null
