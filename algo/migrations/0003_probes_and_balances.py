import algo.models.fields
import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('algo', '0002_market_quote'),
    ]

    operations = [
        migrations.AddField(
            model_name='account',
            name='balances',
            field=models.JSONField(default=dict, editable=False, help_text='As last read: asset to [total, locked].'),
        ),
        migrations.AddField(
            model_name='account',
            name='balances_read_at',
            field=models.DateTimeField(editable=False, null=True),
        ),
        migrations.AddField(
            model_name='account',
            name='capabilities_probed_at',
            field=models.DateTimeField(blank=True, editable=False, null=True),
        ),
        migrations.AddField(
            model_name='account',
            name='key_warned_days',
            field=models.PositiveSmallIntegerField(editable=False, help_text='The last warning before the expiry that was given: 14, 7, 1 or 0 days.', null=True),
        ),
        migrations.AddField(
            model_name='order',
            name='balance_asset',
            field=models.CharField(blank=True, help_text='The asset it spends.', max_length=24),
        ),
        migrations.AddField(
            model_name='order',
            name='balance_before',
            field=algo.models.fields.AmountField(help_text='Total of that asset shortly before the order was sent.', null=True),
        ),
        migrations.AddField(
            model_name='order',
            name='balance_read_at',
            field=models.DateTimeField(null=True),
        ),
        migrations.AddField(
            model_name='order',
            name='locked_before',
            field=algo.models.fields.AmountField(null=True),
        ),
        migrations.AlterField(
            model_name='ticket',
            name='kind',
            field=models.CharField(choices=[('unknown_order', 'An order at the exchange that is not ours'), ('unknown_trade', 'A trade at the exchange that no order of ours explains'), ('balance_moved', 'A balance moved as by an order that the exchange does not show'), ('order_missing', 'An order of ours that the exchange does not know any more')], max_length=16),
        ),
        migrations.CreateModel(
            name='ProbeOrder',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('symbol', models.CharField(max_length=32)),
                ('client_order_id', models.CharField(max_length=32, unique=True)),
                ('exchange_order_id', models.CharField(blank=True, max_length=64, null=True)),
                ('side', models.CharField(choices=[('BUY', 'Buy'), ('SELL', 'Sell')], max_length=4)),
                ('type', models.CharField(choices=[('MARKET', 'Market'), ('LIMIT', 'Limit'), ('STOP_MARKET', 'Stop market'), ('STOP_LIMIT', 'Stop limit')], max_length=12)),
                ('quantity', algo.models.fields.AmountField()),
                ('price', algo.models.fields.AmountField(null=True)),
                ('stop_price', algo.models.fields.AmountField()),
                ('outcome', models.CharField(choices=[('open', 'Sent, or about to be: it may rest at the exchange'), ('removed', 'Taken down again, unfilled'), ('refused', 'Refused by the exchange'), ('absent', 'It never arrived'), ('filled', 'EXECUTED, at least in part')], default='open', max_length=8)),
                ('filled_quantity', algo.models.fields.AmountField(default=0)),
                ('note', models.CharField(blank=True, max_length=400)),
                ('raw', models.JSONField(default=dict, help_text="The exchange's last word, unparsed.")),
                ('created_at', models.DateTimeField()),
                ('negative_at', models.DateTimeField(help_text='When every look-up last agreed that it never arrived.', null=True)),
                ('closed_at', models.DateTimeField(null=True)),
                ('account', models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name='probe_orders', to='algo.account')),
            ],
            options={
                'ordering': ('-created_at', '-id'),
                'constraints': [models.CheckConstraint(condition=models.Q(('quantity__gt', 0)), name='probe_quantity_positive'), models.CheckConstraint(condition=models.Q(models.Q(('closed_at__isnull', True), ('outcome', 'open')), models.Q(models.Q(('outcome', 'open'), _negated=True), ('closed_at__isnull', False)), _connector='OR'), name='probe_open_until_closed')],
            },
        ),
    ]
